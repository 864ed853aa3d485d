"""Responses of the Responses API that clients may come back to, in memory, bounded by count and by bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from localllm.server.errors import Refused
from localllm.server.wire.frames import to_json

MAX_RESPONSES = 1000
MAX_BYTES = 64 << 20


class KeptResponse:
    """A response, what was asked, and the response that it followed; as JSON, which says how large it is."""

    __slots__ = ("_body", "_items", "item_ids", "n_bytes", "n_holders", "previous")

    def __init__(
        self, body: Mapping[str, Any], items: Sequence[Mapping[str, Any]], previous: KeptResponse | None
    ) -> None:
        self._body = to_json(body)
        self._items = to_json(items)
        self.previous = previous
        self.n_bytes = len(self._body) + len(self._items)
        self.n_holders = 0
        """How many need it: the list of responses, and those that followed it."""
        self.item_ids = [item["id"] for item in (*items, *body["output"])]

    @property
    def body(self) -> dict[str, Any]:
        body: dict[str, Any] = msgspec.json.decode(self._body)
        return body

    @property
    def items(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = msgspec.json.decode(self._items)
        return items

    @property
    def asked(self) -> list[dict[str, Any]]:
        """All that the model was asked with: the conversation before, and this response's own input."""
        return [*(self.previous.conversation if self.previous is not None else ()), *self.items]

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """All items up to the end of this response."""
        found: list[dict[str, Any]] = []
        for response in reversed(list(_up(self))):
            found += [*response.items, *response.body["output"]]
        return found


def _up(response: KeptResponse | None) -> Iterator[KeptResponse]:
    while response is not None:
        yield response
        response = response.previous


class ResponseStore:
    """Keeps responses; those not used for the longest time go first. Used on the event loop only.

    A response that went stays in memory as long as one that followed it is kept, and counts for as long.

    Args:
        max_responses: how many can be asked for.
        max_bytes: of all that is kept, as JSON.
    """

    def __init__(self, max_responses: int = MAX_RESPONSES, max_bytes: int = MAX_BYTES) -> None:
        self._max_responses = max_responses
        self._max_bytes = max_bytes
        self._listed: dict[str, KeptResponse] = {}
        self._of_item: dict[str, KeptResponse] = {}
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._listed)

    def find(self, response_id: str) -> KeptResponse:
        """Return a response; it counts as used.

        Raises:
            Refused: it is not there, or not any more.
        """
        found = self._listed.pop(response_id, None)
        if found is None:
            raise Refused(
                404,
                f"The response {response_id[:80]!r} is not kept here.",
                code="response_not_found",
                hint="It was not stored, was deleted, or gave way to newer ones.",
            )
        self._listed[response_id] = found
        return found

    def previous(self, response_id: str | None) -> KeptResponse | None:
        """Return the response that a request follows; None for none.

        Raises:
            Refused: it is not there, or not any more.
        """
        if response_id is None:
            return None
        try:
            return self.find(response_id)
        except Refused as error:
            raise Refused(
                400, error.message, code="previous_response_not_found", param="previous_response_id", hint=error.hint
            ) from None

    def find_item(self, item_id: str) -> dict[str, Any] | None:
        """Return an item of a kept response, of its input or its output; None if there is none."""
        found = self._of_item.get(item_id)
        if found is None:
            return None
        return next((item for item in [*found.items, *found.body["output"]] if item["id"] == item_id), None)

    def keep(self, body: Mapping[str, Any], items: Sequence[Mapping[str, Any]], previous: KeptResponse | None) -> None:
        """Keep a response that has ended.

        Args:
            body: the response.
            items: its own input.
            previous: what it followed.
        """
        kept = KeptResponse(body, items, previous)
        self._listed[body["id"]] = kept
        self._hold(kept)
        while self._listed and (len(self._listed) > self._max_responses or self.n_bytes > self._max_bytes):
            self._drop(self._listed.pop(next(iter(self._listed))))

    def delete(self, response_id: str) -> None:
        """Forget a response. Those that followed it still know what was said.

        Raises:
            Refused: it is not there.
        """
        self.find(response_id)
        self._drop(self._listed.pop(response_id))

    def _hold(self, response: KeptResponse) -> None:
        for needed in _up(response):
            needed.n_holders += 1
            if needed.n_holders > 1:
                return
            self.n_bytes += needed.n_bytes
            self._of_item.update(dict.fromkeys(needed.item_ids, needed))

    def _drop(self, response: KeptResponse) -> None:
        for needed in _up(response):
            needed.n_holders -= 1
            if needed.n_holders:
                return
            self.n_bytes -= needed.n_bytes
            for item_id in needed.item_ids:
                if self._of_item.get(item_id) is needed:
                    del self._of_item[item_id]
