"""What one rendering may spend: processor time, bytes of any one value, and bytes made in all.

Python cannot interrupt one long operation in C, so no such operation may start: whatever makes a value asks
here first, which keeps each operation short, and a tracer looks at the clock between operations.

The weight of a container counts what it would print: shared parts each time they are referred to. Without it,
forty rounds of `x = [x, x]` cost forty small lists to make and 2^40 steps to print, compare or hash.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

TEMPLATE_FILENAME = "<template>"
"""What Jinja calls the code it makes of a template that is in no file."""

_CELL_BYTES = 8
_HEADER_BYTES = 56
_CLOCK_EVERY = 32
"""Trace events between two looks at the clock."""
_CLOCK_EVERY_BYTES = 1 << 16


class OutOfBounds(BaseException):
    """A template spent more than it may.

    Not an Exception, so that no `except Exception` on the way out can swallow it.
    """


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a rendering may spend."""

    cpu_s: float = 1.5
    """Of the rendering thread, so that a busy machine does not fail a good template."""
    value_bytes: int = 32 << 20
    total_bytes: int = 256 << 20
    """Of all values made, those already given back included."""
    output_chars: int = 64 << 20
    n_items: int = 1_000_000
    """Of one list."""
    depth: int = 200
    """Of containers in containers; hashing deeply nested tuples overflows the C stack."""
    int_bits: int = 4096
    n_calls: int = 40
    """Of macros, blocks and loops inside each other. Python itself was seen to crash (3.11) where an exception of the
    tracer went through hundreds of frames."""


class Meter:
    """Counts what one rendering spends; a context manager around the rendering, on its thread.

    Raises:
        OutOfBounds: from whatever spends too much.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._n_ticks = 0
        self._n_bytes = 0
        self._n_unclocked_bytes = 0
        self._n_calls = 0
        # id → (the container, so that its id stays its own; weight; depth)
        self._weights: dict[int, tuple[Any, int, int]] = {}

    def __enter__(self) -> Meter:
        self._outer = getattr(_active, "meter", None)
        _active.meter = self
        self._deadline = time.thread_time() + self.limits.cpu_s
        self._outer_trace = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(self._outer_trace)
        _active.meter = self._outer

    def check_clock(self) -> None:
        """End the rendering if its time is up."""
        if time.thread_time() > self._deadline:
            raise OutOfBounds(f"it ran for more than {self.limits.cpu_s} s")

    @contextmanager
    def deeper(self) -> Iterator[None]:
        """Make sure that one more call may be inside those that are under way."""
        if self._n_calls >= self.limits.n_calls:
            raise OutOfBounds(f"its macros called each other more than {self.limits.n_calls} deep")
        self._n_calls += 1
        try:
            yield
        finally:
            self._n_calls -= 1

    def check_size(self, n_bytes: int) -> None:
        """Make sure that one value may have `n_bytes`."""
        if n_bytes > self.limits.value_bytes:
            raise OutOfBounds(f"it built a value of more than {self.limits.value_bytes >> 20} MiB")

    def allow(self, n_bytes: int) -> None:
        """Pay for a value of `n_bytes` that is about to be made, or was just made out of paid ones."""
        self.check_size(n_bytes)
        self._n_bytes += n_bytes
        if self._n_bytes > self.limits.total_bytes:
            raise OutOfBounds(f"it built more than {self.limits.total_bytes >> 20} MiB of values")
        self._n_unclocked_bytes += n_bytes
        if self._n_unclocked_bytes > _CLOCK_EVERY_BYTES:
            self._n_unclocked_bytes = 0
            self.check_clock()

    def allow_items(self, n_items: int) -> None:
        """Make sure that a list of `n_items` may be made."""
        if n_items > self.limits.n_items:
            raise OutOfBounds(f"it built a list of more than {self.limits.n_items} items")

    def keep(self, value: T) -> T:
        """Pay for a value that was just made, and return it."""
        if isinstance(value, str):
            self.allow(value.__sizeof__())
        elif isinstance(value, list | tuple | dict) and id(value) not in self._weights:
            self.allow_items(len(value))
            weight, depth = self._measure(value)
            self.allow(_HEADER_BYTES + _CELL_BYTES * len(value))
            self.check_size(weight)
            if depth > self.limits.depth:
                raise OutOfBounds(f"it nested values more than {self.limits.depth} deep")
        elif isinstance(value, int) and value.bit_length() > self.limits.int_bits:
            raise OutOfBounds(f"it computed a number of more than {self.limits.int_bits} bits")
        return value

    def weight(self, value: object) -> int:
        """Return about how many bytes `value` would print, shared parts counted each time."""
        return self._measure(value)[0]

    def _measure(self, value: object) -> tuple[int, int]:
        if isinstance(value, str):
            return value.__sizeof__(), 0
        if not isinstance(value, list | tuple | dict):
            return _HEADER_BYTES, 0
        known = self._weights.get(id(value))
        if known is not None:
            return known[1], known[2]
        weight, depth = _HEADER_BYTES, 0
        for child in (*value.keys(), *value.values()) if isinstance(value, dict) else value:
            child_weight, child_depth = self._measure(child)
            weight += child_weight
            depth = max(depth, child_depth)
        self._weights[id(value)] = (value, weight, depth + 1)
        return weight, depth + 1

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        self._n_ticks += 1
        if self._n_ticks >= _CLOCK_EVERY:
            self._n_ticks = 0
            self.check_clock()
        # Loops of unknown length are only in the template's own code; elsewhere the calls are events enough.
        return self._trace if frame.f_code.co_filename == TEMPLATE_FILENAME else None


class _Active(threading.local):
    meter: Meter | None = None


_active = _Active()


def meter() -> Meter:
    """Return the meter of the rendering that runs on this thread."""
    assert _active.meter is not None
    return _active.meter
