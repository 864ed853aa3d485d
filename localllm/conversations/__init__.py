"""Conversations, kept: a tree of messages each, in SQLite; search, export and import."""

from localllm.conversations.records import Conversation, Hit, Node, NodeRole, NodeState, SavedPrompt
from localllm.conversations.store import ConversationStore

__all__ = ["Conversation", "ConversationStore", "Hit", "Node", "NodeRole", "NodeState", "SavedPrompt"]
