"""The ways in which a fault is made: what the server misunderstands, and what it says wrongly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tests.conformance.fake.model import ApiError, Json
from tests.conformance.fake.server import Fault

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
MESSAGES = "/v1/messages"
RESPONSES = "/v1/responses"


class Case(NamedTuple):
    """A fault, and who notices it.

    Attributes:
        noticed_by: names of checks; a module's name stands before the dot.
        thinks: whether the model does.
    """

    name: str
    fault: Fault
    noticed_by: tuple[str, ...]
    thinks: bool = False


def on(path: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """Return `change` for one path; it may change the value in place or return another."""

    def apply(at: str, value: Any) -> Any:
        if at != path:
            return value
        value = copy.deepcopy(value)
        changed = change(value)
        return value if changed is None else changed

    return apply


def understands(change: Callable[[Json], Any], path: str = CHAT) -> Fault:
    return Fault(request=on(path, change))


def says(change: Callable[[Json], Any], path: str = CHAT) -> Fault:
    return Fault(whole=on(path, change))


def streams(change: Callable[[list[Json]], Any], path: str = CHAT) -> Fault:
    return Fault(chunks=on(path, change))


def ignores(*names: str, path: str = CHAT) -> Fault:
    return understands(lambda body: [body.pop(name, None) for name in names] and None, path)


def takes_for(name: str, change: Callable[[Any], Any], path: str = CHAT) -> Fault:
    """It reads another value where the field is given."""
    return understands(lambda body: body.update({name: change(body[name])}) if name in body else None, path)


def refuses_if(holds: Callable[[Json], bool], path: str = CHAT) -> Fault:
    def check(body: Json) -> None:
        if holds(body):
            raise ApiError(400, "Not that.")

    return understands(check, path)


def fails_with(change: Callable[[int, Json], tuple[int, Any]], *paths: str) -> Fault:
    def apply(path: str, error: tuple[int, Any]) -> tuple[int, Any]:
        status, body = error
        return change(status, copy.deepcopy(body)) if not paths or path in paths else error

    return Fault(error=apply)


def lacks(*flags: str) -> Fault:
    return Fault(flags=frozenset(flags))


def choices(chunks: Iterable[Json]) -> list[Json]:
    return [choice for chunk in chunks for choice in chunk["choices"]]


def each_delta(change: Callable[[Json], Any]) -> Fault:
    return streams(lambda chunks: [change(choice["delta"]) for choice in choices(chunks)] and None)


def message_of(body: Json) -> Json:
    return dict(body["choices"][0]["message"])


def change_message(change: Callable[[Json], Any]) -> Fault:
    return says(lambda body: change(body["choices"][0]["message"]) and None)


def each_message(change: Callable[[Json], Any]) -> Fault:
    return understands(lambda body: [change(message) for message in body["messages"]] and None)


def keeps_messages(holds: Callable[[int, Json], bool]) -> Fault:
    def change(body: Json) -> None:
        body["messages"] = [m for i, m in enumerate(body["messages"]) if holds(i, m)]

    return understands(change)


def any_message(holds: Callable[[Json], bool]) -> Callable[[Json], bool]:
    return lambda body: any(holds(message) for message in body["messages"])


def is_named(body: Json) -> bool:
    return isinstance(body.get("tool_choice"), dict)
