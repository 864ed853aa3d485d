"""What the engine asks of objects that know text. They are built in `chat/`, one per request, and handed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TokenConstraint(Protocol):
    """A grammar, seen as a set of allowed next tokens."""

    def mask_logits(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of forbidden tokens to -inf, in place. `logits` is [n_vocab] float32."""

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""

    def accept(self, token: int) -> None:
        """Advance by one token, which must be allowed."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow but the end of the turn."""


class StopCondition(Protocol):
    """Stop strings, seen as a function of the bytes generated so far."""

    def feed(self, piece: bytes) -> bool:
        """Take the next token's bytes; return True once a stop string has been completed."""
