"""Which drafts a request gets, and how its tokens are chosen beside them."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.engine.request import GenerationRequest, SamplingParams
from localllm.errors import RequestError
from localllm.hardware.types import SpecMode


@dataclass(frozen=True)
class SpecModes:
    """What requests may ask of an engine."""

    default: SpecMode
    """Of requests that do not say."""
    can_roll_back: bool
    """Whether rejected tokens can be taken out of the cache; without, there are no drafts."""
    has_draft_model: bool = False

    def of(self, request: GenerationRequest) -> SpecMode:
        """Return the mode of a request.

        Raises:
            RequestError: it needs a draft model, and there is none.
        """
        mode = request.spec or self.default
        if mode == "draft" and not self.has_draft_model:
            raise RequestError(
                "spec is draft, and the model was loaded without a draft model.",
                hint="Load it with --draft-model, or use auto, ngram or off.",
            )
        return mode if self.can_roll_back else "off"

    def draws_by_ratio(self, request: GenerationRequest) -> bool:
        """Whether the request's tokens are drawn here and not in its chain, so that the ratio rule can accept drafts.

        Not with a seed of its own, which must give the same tokens whatever the drafts were.
        """
        may_use_model = self.has_draft_model and self.of(request) in ("auto", "draft")
        return may_use_model and _is_drawn(request.sampling)


def _is_drawn(params: SamplingParams) -> bool:
    """Whether a token is one draw from a distribution that the chain leaves; mirostat and XTC choose in other ways."""
    return params.seed is None and params.temperature > 0 and not params.mirostat and params.xtc_probability == 0
