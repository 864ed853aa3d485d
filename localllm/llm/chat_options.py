"""The options that only a conversation has: tools, reasoning, and what its template is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localllm.chat.formats.tools import Toolbox, parse_toolbox
from localllm.errors import RequestError

NAMES = frozenset(
    {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "thinking",
        "reasoning_budget",
        "template_kwargs",
        "continue_final_message",
        "add_generation_prompt",
    }
)
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})


@dataclass(frozen=True)
class ChatSpec:
    """Checked options of a conversation."""

    toolbox: Toolbox | None
    thinking: bool | None
    """None: as the template has it."""
    reasoning_budget: int | None
    template_kwargs: Mapping[str, Any]
    continue_final_message: bool
    add_generation_prompt: bool


def parse_chat_options(options: Mapping[str, Any]) -> ChatSpec:
    """Check the options of a conversation; others are not looked at.

    Raises:
        RequestError: a value is malformed, or two contradict each other.
        InvalidGrammar: the schema of a tool cannot be enforced.
    """
    budget = options.get("reasoning_budget")
    return ChatSpec(
        toolbox=parse_toolbox(
            options.get("tools"), options.get("tool_choice"), options.get("parallel_tool_calls", True)
        ),
        thinking=_thinking(options.get("thinking"), budget),
        reasoning_budget=budget,
        template_kwargs=_template_kwargs(options.get("template_kwargs")),
        **_prompt_ends(options),
    )


def _thinking(value: object, budget: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"thinking is {value!r}; it must be True, False or None.")
    # Without a token to think with, the template had better say so.
    return False if budget == 0 else value


def _template_kwargs(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise RequestError("template_kwargs must be an object.", hint='Pass one such as {"enable_thinking": false}.')
    for name in value:
        if name in _RESERVED:
            raise RequestError(f"template_kwargs may not set {name!r}.", hint=f"Use the option {name}.")
    return value


def _prompt_ends(options: Mapping[str, Any]) -> dict[str, bool]:
    continues = options.get("continue_final_message", False)
    adds = options.get("add_generation_prompt", not continues)
    for name, value in (("continue_final_message", continues), ("add_generation_prompt", adds)):
        if not isinstance(value, bool):
            raise RequestError(f"{name} is {value!r}; it must be True or False.")
    if continues and adds:
        raise RequestError(
            "continue_final_message and add_generation_prompt exclude each other.", hint="Set one of them."
        )
    return {"continue_final_message": continues, "add_generation_prompt": adds}
