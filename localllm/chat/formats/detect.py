"""Which family a model is of, by the text of its chat template."""

from __future__ import annotations

from localllm.chat.chatml import CHATML
from localllm.chat.formats.base import Format
from localllm.chat.formats.deepseek import DeepSeek
from localllm.chat.formats.gemma import Gemma
from localllm.chat.formats.harmony import Harmony
from localllm.chat.formats.hermes import Generic, Hermes
from localllm.chat.formats.llama3 import Llama3
from localllm.chat.formats.mistral import Mistral
from localllm.chat.formats.parser import ThinkingTags
from localllm.chat.formats.qwen_coder import QwenCoder

_TAGS = (
    ThinkingTags("<think>", "</think>"),
    ThinkingTags("[THINK]", "[/THINK]"),
    ThinkingTags("<seed:think>", "</seed:think>"),
    ThinkingTags("<|START_THINKING|>", "<|END_THINKING|>"),
)


def detect_format(template: str | None) -> Format:
    """Return the conventions that a chat template shows.

    Args:
        template: its source; None is ChatML, for want of one.
    """
    source = CHATML if template is None else template
    tags = next((tags for tags in _TAGS if tags.end in source), None)
    if _has(source, "<|channel|>", "<|message|>", "analysis"):
        return Harmony()
    if _has(source, "<｜tool▁calls▁begin｜>"):
        return DeepSeek(tags, has_fence="```json" in source)
    if _has(source, "<tool_call>", "<function=", "<parameter="):
        return QwenCoder(tags)
    if _has(source, "[TOOL_CALLS]"):
        return Mistral(tags, has_list="[ARGS]" not in source, has_ids="[CALL_ID]" in source)
    # GLM has the tag of Hermes, and other things within it.
    if _has(source, "<tool_call>") and not _has(source, "<arg_key>"):
        return Hermes(tags)
    if _has(source, "<|start_header_id|>", "ipython"):
        return Llama3(tags)
    if _has(source, "<start_of_turn>"):
        return Gemma(tags)
    return Generic(tags)


def _has(source: str, *texts: str) -> bool:
    return all(text in source for text in texts)
