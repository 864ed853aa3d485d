"""The filters that chat templates use, each bounded. Filters that are lazy in Jinja return lists here.

Lists, because iterators nested in iterators would be paid for only when something walks them, in C.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

import jinja2.filters
from jinja2 import Environment, pass_environment
from markupsafe import escape

from localllm.chat.sandbox import operations
from localllm.chat.sandbox.meter import OutOfBounds, meter

Filter = Callable[..., Any]

_MAX_DIGITS = 20
_MAX_SEPARATOR_CHARS = 16
_MAX_GROUPS = 100_000


def solid(value: Any) -> Any:
    """Return `value` with anything iterable in it walked and paid for, as a list."""
    if isinstance(value, str):
        meter().allow_items(len(value))
        return value
    if isinstance(value, list | tuple | dict):
        return meter().keep(value)
    if isinstance(value, range):
        return meter().keep(list(value))
    return value


def _solid_input(function: Filter, finish: Callable[[Any], Any]) -> Filter:
    """Wrap one of Jinja's filters: walk its input first, and `finish` its output."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        given[position] = solid(given[position])
        return finish(function(*given, **kwargs))

    return wrapper


def _listed(value: Any) -> Any:
    return meter().keep(value if isinstance(value, str | dict) else list(value))


def _kept(value: Any) -> Any:
    return meter().keep(value) if isinstance(value, int | float) else value


def _text(function: Callable[[str], str]) -> Filter:
    return lambda value: meter().keep(function(str(value)))


def _title(text: str) -> str:
    return jinja2.filters.do_title(operations.check_splittable(text))


def trim(value: Any, chars: str | None = None) -> str:
    return operations.strip(str(value), chars)


def replace(value: Any, old: Any, new: Any, count: int | None = None) -> str:
    return operations.replace(str(value), str(old), str(new), -1 if count is None else count)


@pass_environment
def join(environment: Environment, value: Any, d: Any = "", attribute: str | int | None = None) -> str:
    items: Iterable[Any] = solid(value)
    if attribute is not None:
        items = map(jinja2.filters.make_attrgetter(environment, attribute), items)
    return operations.join(str(d), [str(item) for item in items])


def indent(value: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = operations.check_splittable(str(value))
    n_chars = operations.check_width(len(width) if isinstance(width, str) else width)
    meter().allow(len(text) + n_chars * (len(text.splitlines()) + 1))
    return meter().keep(jinja2.filters.do_indent(text, width, first, blank))


def center(value: Any, width: int = 80) -> str:
    return meter().keep(str(value).center(operations.check_width(width)))


@pass_environment
def truncate(environment: Environment, value: Any, *args: Any, **kwargs: Any) -> str:
    return meter().keep(jinja2.filters.do_truncate(environment, str(value), *args, **kwargs))


def percent_format(value: Any, *args: Any, **kwargs: Any) -> Any:
    return operations.binary("%", str(value), kwargs or args)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as in Transformers: not escaped for HTML, not ASCII only."""
    if any(len(text) > _MAX_SEPARATOR_CHARS for text in (separators or ())):
        raise OutOfBounds("it used a JSON separator that is too long")
    if (len(indent) if isinstance(indent, str) else indent or 0) > _MAX_SEPARATOR_CHARS:
        raise OutOfBounds("it used a JSON indentation that is too wide")
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    n_chars, chunks = 0, []
    for chunk in encoder.iterencode(value):
        n_chars += len(chunk)
        meter().check_size(n_chars)
        chunks.append(chunk)
    return meter().keep("".join(chunks))


@pass_environment
def total(environment: Environment, value: Any, attribute: str | int | None = None, start: Any = 0) -> Any:
    items: Iterable[Any] = solid(value)
    if attribute is not None:
        items = map(jinja2.filters.make_attrgetter(environment, attribute), items)
    for item in items:
        start = operations.binary("+", start, item)
    return start


def rounded(value: float, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > _MAX_DIGITS:
        raise OutOfBounds(f"it rounded to more than {_MAX_DIGITS} digits")
    return jinja2.filters.do_round(value, precision, method)  # type: ignore[arg-type]


def batch(value: Any, linecount: int, fill_with: Any = None) -> list[Any]:
    if linecount > _MAX_GROUPS:
        raise OutOfBounds(f"it asked for rows of more than {_MAX_GROUPS} items")
    return meter().keep(list(jinja2.filters.do_batch(solid(value), linecount, fill_with)))


def grouped(value: Any, slices: int, fill_with: Any = None) -> list[Any]:
    if slices > _MAX_GROUPS:
        raise OutOfBounds(f"it asked for more than {_MAX_GROUPS} slices")
    return meter().keep(list(jinja2.filters.sync_do_slice(solid(value), slices, fill_with)))


_LISTS = "dictsort groupby items list map reject rejectattr reverse select selectattr sort unique"
_SCALARS = "abs count default d first float int last length max min"

FILTERS: dict[str, Filter] = {
    **{name: _solid_input(jinja2.filters.FILTERS[name], _listed) for name in _LISTS.split()},
    **{name: _solid_input(jinja2.filters.FILTERS[name], _kept) for name in _SCALARS.split()},
    "batch": batch,
    "capitalize": _text(str.capitalize),
    "center": center,
    "e": _text(lambda text: str(escape(text))),
    "escape": _text(lambda text: str(escape(text))),
    "format": percent_format,
    "indent": indent,
    "join": join,
    "lower": _text(str.lower),
    "replace": replace,
    "round": rounded,
    "safe": _text(str),
    "slice": grouped,
    "string": _text(str),
    "sum": total,
    "title": _text(_title),
    "tojson": tojson,
    "trim": trim,
    "truncate": truncate,
    "upper": _text(str.upper),
}
"""All that a template may use."""
