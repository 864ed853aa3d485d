"""Text: messages, templates, stop strings, grammars, and turning token pieces into characters.

Nothing heavy is imported until it is used: Jinja with `ChatTemplate`, llguidance with the first grammar.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.chat.detokenizer import Utf8Stream
    from localllm.chat.grammar import GrammarCompiler, GrammarConstraint, VocabView
    from localllm.chat.messages import FunctionCall, Message, TextPart, ToolCall, parse_messages
    from localllm.chat.stops import StopFilter, StopScanner
    from localllm.chat.template import ChatTemplate

_MODULES = {
    "ChatTemplate": "template",
    "FunctionCall": "messages",
    "GrammarCompiler": "grammar",
    "GrammarConstraint": "grammar",
    "Message": "messages",
    "StopFilter": "stops",
    "StopScanner": "stops",
    "TextPart": "messages",
    "ToolCall": "messages",
    "Utf8Stream": "detokenizer",
    "VocabView": "grammar",
    "parse_messages": "messages",
}

__all__ = [
    "ChatTemplate",
    "FunctionCall",
    "GrammarCompiler",
    "GrammarConstraint",
    "Message",
    "StopFilter",
    "StopScanner",
    "TextPart",
    "ToolCall",
    "Utf8Stream",
    "VocabView",
    "parse_messages",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
