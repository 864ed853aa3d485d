"""Whether two models have the same vocabulary, without which their distributions cannot be compared."""

from __future__ import annotations

from localllm.errors import RequestError
from localllm.llama import Model


def check_same_vocabulary(reference: Model, other: Model) -> None:
    """Check that every token id means the same to both.

    Raises:
        RequestError: it does not; the message names the first difference.
    """
    difference = _difference(reference, other)
    if difference:
        raise RequestError(
            f"{other.path.name} and {reference.path.name} have different vocabularies: {difference}.",
            hint="Compare files of one model, such as two quantizations of it.",
        )


def _difference(reference: Model, other: Model) -> str | None:
    """Return where `other` departs from `reference`, or None."""
    ours, theirs = other.vocab, reference.vocab
    if ours.n_tokens != theirs.n_tokens:
        return f"{ours.n_tokens} tokens and {theirs.n_tokens}"
    if (difference := ours.difference(theirs)) is not None:
        return difference
    if (ours.add_bos, ours.bos) != (theirs.add_bos, theirs.bos):
        return f"a text begins with {_beginning(other)} and {_beginning(reference)}"
    return None


def _beginning(model: Model) -> str:
    vocab = model.vocab
    return repr(vocab.text(vocab.bos)) if vocab.add_bos and vocab.bos is not None else "no special token"
