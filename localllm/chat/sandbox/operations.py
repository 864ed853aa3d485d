"""Operators and string methods for templates: those of Python, refused before they grow too large."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from jinja2.sandbox import SandboxedEnvironment, SandboxedFormatter

from localllm.chat.sandbox.meter import OutOfBounds, meter

MAX_WIDTH = 9999
"""Characters that padding, precision or indentation may ask for."""
MAX_SPLIT_CHARS = 4 << 20
MAX_STRIP_CHARS = 256
MAX_FORMAT_CHARS = 4096
_MAX_SEARCH_STEPS = 1 << 30

_LONG_NUMBER = re.compile(r"\d{5,}")
_STARRED = re.compile(r"%(?:\(.*\))?[^a-zA-Z%(]*\*", re.DOTALL)
_SEQUENCES = (str, list, tuple)
_PLAIN_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "-": operator.sub,
    "/": operator.truediv,
    "//": operator.floordiv,
}


def binary(symbol: str, left: Any, right: Any) -> Any:
    """Return `left symbol right`.

    Raises:
        OutOfBounds: the result would be too large.
    """
    if symbol == "+":
        if isinstance(left, str) and isinstance(right, str):
            meter().allow(len(left) + len(right))
        return meter().keep(left + right)
    if symbol == "*":
        return _multiply(left, right)
    if symbol == "%":
        return _percent(left, right) if isinstance(left, str) else meter().keep(left % right)
    if symbol == "**":
        return _power(left, right)
    return meter().keep(_PLAIN_OPERATORS[symbol](left, right))


def _multiply(left: Any, right: Any) -> Any:
    if isinstance(right, _SEQUENCES):
        left, right = right, left
    if isinstance(left, _SEQUENCES) and isinstance(right, int):
        n_times = max(right, 0)
        if isinstance(left, str):
            meter().allow(len(left) * n_times)
        else:
            meter().allow_items(len(left) * n_times)
            meter().allow(meter().weight(left) * n_times)
    return meter().keep(left * right)


def _power(left: Any, right: Any) -> Any:
    limit = meter().limits.int_bits
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > limit:
        raise OutOfBounds(f"it computed a number of more than {limit} bits")
    return meter().keep(left**right)


def _percent(template: str, values: Any) -> str:
    """printf-style formatting, with numbers in the format bounded wherever they stand."""
    if len(template) > MAX_FORMAT_CHARS or _LONG_NUMBER.search(template) or _STARRED.search(template):
        raise OutOfBounds("it used a format string that is too long or too wide")
    meter().allow(template.count("%") * (MAX_WIDTH + meter().weight(values)))
    result: str = template % values
    return meter().keep(result)


class BoundedFormatter(SandboxedFormatter):
    """`str.format` with widths and the size of the result bounded."""

    def __init__(self, environment: SandboxedEnvironment) -> None:
        super().__init__(environment)
        self._n_chars = 0

    def format_field(self, value: Any, format_spec: str) -> str:
        if _LONG_NUMBER.search(format_spec):
            raise OutOfBounds("it used a format string that is too long or too wide")
        text: str = super().format_field(value, format_spec)
        self._n_chars += len(text)
        meter().allow(len(text))
        meter().check_size(self._n_chars)
        return text


def join(separator: str, items: Iterable[str]) -> str:
    """Return the strings joined."""
    parts = list(items)
    n_chars = len(separator) * max(len(parts) - 1, 0)
    meter().allow(n_chars + sum(len(part) for part in parts if isinstance(part, str)))
    return meter().keep(separator.join(parts))


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    """Return `text` with `old` replaced by `new`."""
    n_found = text.count(old)
    meter().allow(len(text) + n_found * max(len(new) - len(old), 0))
    return meter().keep(text.replace(old, new, count))


def check_width(width: Any) -> Any:
    """Return a number of characters that padding may have."""
    if isinstance(width, int) and width > MAX_WIDTH:
        raise OutOfBounds(f"it asked for a width of more than {MAX_WIDTH}")
    return width


def check_splittable(text: str) -> str:
    """Return a text that is short enough to be cut into pieces."""
    if len(text) > MAX_SPLIT_CHARS:
        raise OutOfBounds(f"it split a text of more than {MAX_SPLIT_CHARS} characters")
    return text


def strip(text: str, chars: str | None = None, method: Callable[..., str] = str.strip) -> str:
    """Return `text` without `chars` at its ends."""
    if chars is not None and len(chars) > MAX_STRIP_CHARS:
        raise OutOfBounds(f"it stripped more than {MAX_STRIP_CHARS} different characters")
    return meter().keep(method(text, chars))


def _padded(method: Callable[..., str]) -> Callable[..., str]:
    return lambda text, width, *fill: meter().keep(method(text, check_width(width), *fill))


def _stripped(method: Callable[..., str]) -> Callable[..., str]:
    return lambda text, chars=None: strip(text, chars, method)


def _split(method: Callable[..., Sequence[str]]) -> Callable[..., Sequence[str]]:
    return lambda text, *args, **kwargs: meter().keep(method(check_splittable(text), *args, **kwargs))


def _searched(method: Callable[..., Any]) -> Callable[..., Any]:
    """Bound a search from the right, which takes len(text) · len(part) steps at worst."""

    def search(text: str, part: str, *args: int) -> Any:
        if len(text) * len(part) > _MAX_SEARCH_STEPS:
            raise OutOfBounds("it searched a long text for a long text from the right")
        return meter().keep(method(text, part, *args))

    return search


def _plain(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda text, *args: meter().keep(method(text, *args))


_PLAIN_METHODS = (
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier "
    "islower isnumeric isprintable isspace istitle isupper lower partition removeprefix removesuffix "
    "startswith swapcase title upper"
)

STR_METHODS: dict[str, Callable[..., Any]] = {
    **{name: _plain(getattr(str, name)) for name in _PLAIN_METHODS.split()},
    **{name: _padded(getattr(str, name)) for name in ("center", "ljust", "rjust", "zfill")},
    **{name: _stripped(getattr(str, name)) for name in ("strip", "lstrip", "rstrip")},
    **{name: _split(getattr(str, name)) for name in ("split", "rsplit", "splitlines")},
    **{name: _searched(getattr(str, name)) for name in ("rfind", "rindex", "rpartition")},
    "join": join,
    "replace": replace,
}
"""The methods of strings that templates may call; `format` and `format_map` go through BoundedFormatter."""
