"""What a session tells whoever shows it: typed records, in order, on the interface's thread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from localllm.errors import LocalLLMError
from tui.chat.meter import Figures

if TYPE_CHECKING:
    from localllm.conversations import Conversation, Node

Phase = Literal["idle", "loading", "reading", "writing", "tools"]
"""loading: the model is not here yet. reading: it reads the prompt. tools: a tool is being run, or asked about."""


@dataclass(frozen=True)
class PhaseChanged:
    """It does something else now."""

    phase: Phase


@dataclass(frozen=True)
class Cut:
    """What comes after a message is not shown any more; it is on another branch, or gone."""

    after_id: int | None
    """None: nothing is left."""


@dataclass(frozen=True)
class Added:
    """A message that is complete, at the end."""

    node: Node


@dataclass(frozen=True)
class Began:
    """A message that will stream, at the end; one that goes on keeps its id."""

    node: Node


@dataclass(frozen=True)
class Streamed:
    """More of it."""

    node_id: int
    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True)
class Finished:
    """It is complete, or as far as it came."""

    node: Node


@dataclass(frozen=True)
class BranchShown:
    """Another path is shown."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Measured:
    """The figures of the answer, live and at its end."""

    figures: Figures


@dataclass(frozen=True)
class Changed:
    """The conversation's title, model or options."""

    conversation: Conversation


@dataclass(frozen=True)
class Refused:
    """A question was not asked, and is not kept: it goes back to whoever wrote it."""

    text: str
    error: LocalLLMError


SessionEvent = PhaseChanged | Cut | Added | Began | Streamed | Finished | BranchShown | Measured | Changed | Refused
