"""What comes out of embedding and ranking: one event for each request, with all of its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from localllm.engine.events import ErrorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TextPooling = Literal["mean", "cls", "last"]
"""How the vectors of a text's tokens become the text's: their mean, the first token's, or the last one's."""
TEXT_POOLINGS: tuple[TextPooling, ...] = ("mean", "cls", "last")
VectorsReason = Literal["done", "cancelled", "error"]


class VectorsEvent(msgspec.Struct, frozen=True, kw_only=True, tag="vectors"):
    """The one event of a request for vectors, or for scores, which are vectors of width 1."""

    request_id: int
    reason: VectorsReason = "done"
    n_tokens: tuple[int, ...] = ()
    """Tokens of each input, in the order of the inputs."""
    width: int = 0
    data: bytes = b""
    """The vectors in the order of the inputs, float32 in the machine's byte order, as the model gives them."""
    error: ErrorInfo | None = None

    @property
    def vectors(self) -> NDArray[np.float32]:
        """[n_inputs, width] float32, read-only."""
        import numpy as np

        return np.frombuffer(self.data, dtype=np.float32).reshape(len(self.n_tokens), self.width)


VectorsSink = Callable[[VectorsEvent], None]
"""Called once for each request, on a thread of the engine's or the backend's; must not block."""
