"""Hermes and Qwen: each call is a JSON object in <tool_call></tool_call>; most templates without tools take it too.

Source: the chat templates of Qwen2.5, Qwen3 and Hermes-3; their small coder models leave the tags out or put the object
into a fence of Markdown, so an answer that begins with a known call is taken as one.
"""

from __future__ import annotations

from localllm.chat.formats.json_calls import BARE, Fence
from localllm.chat.formats.json_format import JsonFormat


class Hermes(JsonFormat):
    name = "hermes"
    call_markers = ("<tool_call>", "</tool_call>")
    fence = Fence("<tool_call>", "</tool_call>")
    loose = (
        Fence("```json", "```"),
        Fence("```tool_call", "```"),
        Fence("```", "```"),
        Fence("<tools>", "</tools>"),
        BARE,
    )


class Generic(Hermes):
    """For models whose templates know no tools: they are told of them in the words of Hermes."""

    name = "generic"
    is_of_template = False
