"""Parts of a body that come in kinds, told apart by their `type`: content blocks, items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from localllm.server.errors import BadRequest
from localllm.server.wire.base import WireModel

MISSING = {
    "image": "This server reads text; images need a multimodal projector, and none is loaded.",
    "audio": "This server reads text; audio needs a multimodal projector, and none is loaded.",
    "file": "This server reads text; send the text of the file instead.",
    "hosted": "It runs on the provider's servers, not here; offer a tool of your own instead.",
}
"""What is missing for kinds that clients send and that cannot be honoured."""


def parse_piece(
    value: Any, kinds: Mapping[str, type[WireModel]], at: str, *, missing: Mapping[str, str], default: str | None = None
) -> WireModel:
    """Return a piece as its kind's model.

    Args:
        value: what the client sent.
        kinds: `type` to model.
        at: where it stands in the body, for messages.
        missing: kinds that are refused, and a key of MISSING for each.
        default: the kind of a piece that names none.

    Raises:
        BadRequest: it is malformed, or of a kind that cannot be honoured.
    """
    kind = value.get("type", default) if isinstance(value, Mapping) else None
    if not isinstance(kind, str):
        raise BadRequest(f"{at}: expected an object with a type.", param=at)
    model = kinds.get(kind)
    if model is None:
        reason = missing.get(kind)
        hint = MISSING[reason] if reason else f"There is {', '.join(kinds)}."
        raise BadRequest(f"{at}.type: {kind[:80]!r} is not supported.", param=f"{at}.type", hint=hint)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([at, *map(str, first["loc"])])
        raise BadRequest(f"{where}: {first['msg']}.", param=where) from None
