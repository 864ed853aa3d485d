"""Which family a model is of, by the text of its chat template."""

from __future__ import annotations

from localllm.chat.formats.base import Format
from localllm.chat.formats.hermes import Generic, Hermes
from localllm.chat.formats.parser import ThinkingTags

_TAGS = (
    ThinkingTags("<think>", "</think>"),
    ThinkingTags("[THINK]", "[/THINK]"),
    ThinkingTags("<seed:think>", "</seed:think>"),
    ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>"),
)


def detect_format(template: str | None, *, supports_tools: bool = True) -> Format:
    """Return the conventions that a chat template shows.

    Args:
        template: its source; None is ChatML for want of one.
        supports_tools: whether it shows tools at all.
    """
    source = template or "<tool_call>"
    tags = next((tags for tags in _TAGS if tags.end in source), None)
    if "<tool_call>" in source:
        return Hermes(tags)
    return Generic(tags)
