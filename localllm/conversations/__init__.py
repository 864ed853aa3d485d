"""Conversations, kept: a tree of messages each, in SQLite; search, export and import."""
