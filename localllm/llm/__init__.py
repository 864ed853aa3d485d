"""The Python API: load a model, ask it, read its answer as it comes."""

from localllm.llm.events import (
    ChatEvent,
    Done,
    Progress,
    ReasoningDelta,
    TextDelta,
    TokenChoice,
    ToolCallDelta,
    Waiting,
)
from localllm.llm.model import LLM, Messages, load
from localllm.llm.options import GenerateOptions

__all__ = [
    "LLM",
    "ChatEvent",
    "Done",
    "GenerateOptions",
    "Messages",
    "Progress",
    "ReasoningDelta",
    "TextDelta",
    "TokenChoice",
    "ToolCallDelta",
    "Waiting",
    "load",
]
