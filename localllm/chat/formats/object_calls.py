"""Reading calls that are JSON objects, as they come."""

from __future__ import annotations

from collections.abc import Callable, Collection

from localllm.chat.formats.call_object import CallReader
from localllm.chat.formats.parser import StreamParser, ThinkingTags


class ObjectCallParser(StreamParser):
    """What parsers share whose calls are objects; subclasses say where one begins and what follows it."""

    def __init__(self, tags: ThinkingTags | None, *, is_thinking: bool = False, names: Collection[str] = ()) -> None:
        super().__init__(tags, is_thinking=is_thinking, names=names)
        self._reader = CallReader(names)
        self._cursor = 0
        self._n_opening = 0
        self._has_begun = False
        self._then: Callable[[], bool] = self._answer
        self._otherwise: Callable[[], bool] = self._answer

    def _read_call(
        self,
        n: int,
        n_opening: int,
        *,
        then: Callable[[], bool],
        otherwise: Callable[[], bool],
        name_first: bool = False,
    ) -> bool:
        """Read an object that may be a call; it stays in the buffer until it is sure.

        Args:
            n: characters before it.
            n_opening: how many of them are content if it is none.
            then: what goes on after the call.
            otherwise: what goes on where it is none, or breaks off.
            name_first: whether it is only a call if its name comes first.
        """
        self._cursor, self._n_opening = n, n_opening
        self._then, self._otherwise = then, otherwise
        self._reader, self._has_begun = CallReader(self._names, name_first=name_first), False
        return self._go(self._calling)

    def _calling(self) -> bool:
        self._cursor += self._reader.feed(self._buffer[self._cursor :])
        if self._reader.name is not None:
            start = self._at
            self._drop(self._cursor)
            self._cursor = 0
            if not self._has_begun:
                self._begin_call(start, self._reader.name, self._reader.id)
                self._has_begun = True
            self._more_arguments(self._reader.take_arguments(), start, self._at)
        if self._reader.done:
            self._end_call()
            return self._go(self._then)
        if self._reader.failed or (self._ended and not self._has_begun and self._buffer):
            return self._give_up()
        return False

    def _give_up(self) -> bool:
        """What follows is content; so is what was held back, if no call was announced."""
        if not self._has_begun:
            self._say(self._n_opening)
        elif self._reader.has_arguments:
            self._end_call()
        return self._go(self._otherwise)
