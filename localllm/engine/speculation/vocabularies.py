"""Whether a model can propose tokens for another: a token id must mean the same to both.

Models of one family may have been padded to vocabularies of different sizes; what is beyond the common part is then not
a token of any text.
"""

from __future__ import annotations

from localllm.errors import RequestError
from localllm.llama import Model

MAX_SIZE_DIFFERENCE = 128
"""As llama.cpp's speculative examples allow (common/speculative.cpp, SPEC_VOCAB_MAX_SIZE_DIFFERENCE)."""


def check_draft_model(target: Model, draft: Model) -> None:
    """Check that `draft` can propose tokens for `target`.

    Raises:
        RequestError: one of them cannot take tokens back, or their vocabularies differ; the message says where.
    """
    for model, use in ((draft, "as a draft model"), (target, "with a draft model")):
        if not model.can_roll_back:
            raise RequestError(
                f"{model.path.name} cannot be used {use}: its memory is recurrent, so rejected tokens stay in it.",
                hint="Leave --draft-model out, or use a transformer.",
            )
    difference = _difference(target, draft)
    if difference:
        raise RequestError(
            f"{draft.path.name} cannot draft for {target.path.name}: {difference}.",
            hint="Use a smaller model of the same family, or the model itself with layers pruned.",
        )


def _difference(target: Model, draft: Model) -> str | None:
    ours, theirs = draft.vocab, target.vocab
    if ours.kind != theirs.kind:
        return "their tokenizers are of different types"
    if abs(ours.n_tokens - theirs.n_tokens) > MAX_SIZE_DIFFERENCE:
        return f"it has {ours.n_tokens} tokens and the other {theirs.n_tokens}; {MAX_SIZE_DIFFERENCE} may be missing"
    if (ours.add_bos, ours.bos, ours.eos) != (theirs.add_bos, theirs.bos, theirs.eos):
        return "their texts begin or end with different tokens"
    return ours.difference(theirs)
