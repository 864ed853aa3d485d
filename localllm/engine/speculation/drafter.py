"""What proposes tokens, and what it says of its own certainty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from localllm.engine.speculation.acceptance import Acceptance


class Drafter(Protocol):
    """Proposes the next tokens of one sequence. Whether they are right is decided by the model, token by token.

    A drafter that must compute says nothing new in `follow` until a draft was verified; one that only looks things up
    can count, in `follow`, whether it would have been right, also where nobody asked it.
    """

    kind: str
    """Its name in reports."""

    def follow(self, tokens: Sequence[int], acceptance: Acceptance) -> bool:
        """Take in what was appended to the sequence since the last call.

        Args:
            tokens: prompt and output so far. A prompt may be taken in over several calls.
            acceptance: told, for each new token of the output, of which grade a proposal would have been, and whether
                it would have been right.

        Returns:
            Whether all of it is taken in, so that it can propose.
        """

    def grades(self) -> Sequence[int]:
        """Return the certainty of each token that it can propose now, each given that those before are right.

        A grade is an index into the rates of `Acceptance`. Empty where there is nothing to propose.
        """

    def propose(self, n: int) -> list[int]:
        """Return the next `n` tokens, or fewer; `n` is at most the number of grades.

        A draft model computes for all sequences at once (`ModelDrafts.propose`) before this is asked, and may end a
        draft early.
        """

    def close(self) -> None:
        """The sequence has ended; closing twice is harmless."""
