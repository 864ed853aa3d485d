"""Who may call what: every call is the user's decision, once or for the rest of a chat. Nothing of it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from localllm.tools.servers import NamedTool

Choice = Literal["once", "always", "never", "refuse"]
"""once: this call. always: this tool, in this chat. never: this tool not, in this chat. refuse: not this call."""


@dataclass(frozen=True)
class PendingCall:
    """A call that a model wants to make."""

    named: NamedTool
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What the user says to it."""

    choice: Choice
    reason: str = ""
    """Told to the model where the call is refused."""

    @property
    def is_allowed(self) -> bool:
        return self.choice in ("once", "always")


class Approvals:
    """What the user has decided for the rest of one chat, and which tools the chat has at all."""

    def __init__(self) -> None:
        self._standing: dict[str, Verdict] = {}
        self._off: set[str] = set()

    def standing(self, model_name: str) -> Verdict | None:
        """Return what was decided for all calls of a tool; None where each is asked."""
        return self._standing.get(model_name)

    def remember(self, model_name: str, verdict: Verdict) -> None:
        """Keep a verdict that is about more than one call."""
        if verdict.choice in ("always", "never"):
            self._standing[model_name] = verdict

    def forget(self, model_name: str) -> None:
        """Ask again for each call of a tool."""
        self._standing.pop(model_name, None)

    def is_on(self, model_name: str) -> bool:
        """Whether the model is told of a tool."""
        return model_name not in self._off

    def switch(self, model_name: str, *, on: bool) -> None:
        """Tell the model of a tool, or do not."""
        if on:
            self._off.discard(model_name)
        else:
            self._off.add(model_name)
