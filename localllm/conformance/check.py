"""What a check is, and how it says what it expected and what it saw."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from localllm.conformance.target import Target

Outcome = Literal["passed", "failed", "skipped"]
Run = Callable[["Target"], Awaitable[None]]
_Value = TypeVar("_Value")

_MAX_SHOWN_CHARS = 200


class Unmet(Exception):
    """The server did something else than clients rely on.

    Args:
        expected: what clients rely on, in a few words.
        seen: what came instead.
    """

    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(f"expected {expected}; saw {seen}")
        self.expected = expected
        self.seen = shown(seen)


class NotApplicable(Exception):
    """The check says nothing about this server; the message says why."""


@dataclass(frozen=True)
class Check:
    """One claim about a server.

    Attributes:
        name: module and function; stable, so that reports can be compared.
        point: the number of the point it belongs to; see `points.POINTS`.
        title: the claim, a sentence.
        why: what goes wrong for a client where it does not hold; may be empty.
    """

    name: str
    point: int
    title: str
    why: str
    run: Run


@dataclass(frozen=True)
class Result:
    """What became of a check.

    Attributes:
        expected: what should have come; "" unless failed.
        seen: what came; "" unless failed.
        reason: why it was skipped; "" unless it was.
    """

    check: Check
    outcome: Outcome
    expected: str = ""
    seen: str = ""
    reason: str = ""
    duration_s: float = 0.0


def check(point: int) -> Callable[[Run], Check]:
    """Make a check of a function: the first line of its docstring is the claim, the rest is why it matters."""

    def make(run: Run) -> Check:
        title, _, why = inspect.cleandoc(run.__doc__ or "").partition("\n")
        module = run.__module__.rpartition(".")[2]
        assert title, f"{module}.{run.__name__} has no docstring"
        return Check(f"{module}.{run.__name__}", point, title.rstrip("."), " ".join(why.split()), run)

    return make


def expect(holds: bool, expected: str, seen: object) -> None:
    """Raise Unmet unless `holds`."""
    if not holds:
        raise Unmet(expected, seen)


def expect_equal(what: str, seen: object, wanted: object) -> None:
    """Raise Unmet unless both are equal."""
    expect(seen == wanted, f"{what} {shown(wanted)}", seen)


def need(value: _Value | None, reason: str) -> _Value:
    """Return `value`; where there is none, the check does not apply, for this reason."""
    if value is None:
        raise NotApplicable(reason)
    return value


def shown(value: object) -> str:
    """Return a value on one line, not too long a one."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"
