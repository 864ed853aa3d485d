"""Gemma 2 and 3: templates that know neither tools nor a system message; calls are JSON in a ```tool_code fence.

The models were trained to follow whatever the prompt asks for; Google's guide shows a name and parameters in JSON, in
fences named tool_code for calls and tool_output for results.

Source: Google's guide to function calling with Gemma 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from localllm.chat.formats.base import call_json
from localllm.chat.formats.json_calls import BARE, Fence
from localllm.chat.formats.json_format import JsonFormat
from localllm.chat.messages import Message, ToolCall

_CODE, _END = "```tool_code", "```"


class Gemma(JsonFormat):
    name = "gemma"
    fence = Fence(_CODE, _END)
    key = "parameters"
    loose = (Fence("```json", _END), Fence("```tool_call", _END), BARE)

    def instructions(self) -> str:
        example = '{"name": <function name>, "parameters": <object of arguments>}'
        return (
            f"To call a function, answer with nothing but\n{_CODE}\n{example}\n{_END}\n"
            "and wait for its result, in a tool_output fence. Answer without a call where no function helps."
        )

    def write_calls(self, calls: Sequence[ToolCall]) -> str:
        return "\n".join(f"{_CODE}\n{call_json(call, self.key)}\n{_END}" for call in calls)

    def write_result(self, message: Message) -> str:
        return f"```tool_output\n{message.text}\n{_END}"
