"""What a model can be asked for, and its texts as it was trained to read them: the tokens of an input, of a pair."""

from __future__ import annotations

from localllm.engine.vector_jobs import place
from localllm.engine.vectors import TEXT_POOLINGS, TextPooling
from localllm.errors import RequestError
from localllm.gguf import ModelShape
from localllm.llama import Model, Vocab
from localllm.runtime.backend import EmbedRequest, FimTokens, ModelInfo, RankRequest

_WORK = {
    "completion": ("generate text", "Load a chat model, such as smollm2."),
    "embedding": ("embed", "Load an embedding model, such as all-MiniLM-L6-v2; any chat model can embed, too."),
    "rerank": ("rerank", "Load a reranker, such as bge-reranker-v2-m3 or Qwen3-Reranker."),
}


def capabilities(shape: ModelShape) -> tuple[str, ...]:
    """Return what a model can do: a decoder writes, and embeds by its last layer; an encoder embeds or ranks."""
    rerank = ("rerank",) if shape.can_rank else ()
    if not shape.is_encoder:
        return ("completion", "chat", "embedding", *rerank)
    return rerank or ("embedding",)


def check_can(capability: str, info: ModelInfo) -> None:
    """Check that the model can be asked for this.

    Raises:
        RequestError: it cannot; the message says what it can do, the hint which models can do this.
    """
    if capability not in info.capabilities:
        work, hint = _WORK[capability]
        can = " and ".join(_WORK[name][0] for name in info.capabilities if name in _WORK)
        raise RequestError(f"{info.name} cannot {work}; it can {can}.", hint=hint)


def fim_tokens(vocab: Vocab) -> FimTokens | None:
    """Return the tokens of fill-in-the-middle; None where one of the three that it needs is missing."""
    pre, suf, mid = vocab.fim_pre, vocab.fim_suf, vocab.fim_mid
    if pre is None or suf is None or mid is None:
        return None
    return FimTokens(pre=pre, suf=suf, mid=mid, rep=vocab.fim_rep, sep=vocab.fim_sep)


def text_pooling(pooling: str | None) -> TextPooling:
    """Return how a model's texts are pooled if the caller does not say; the mean, where the model does not, either."""
    return next((known for known in TEXT_POOLINGS if known == pooling), "mean")


def check_embedding(request: EmbedRequest, info: ModelInfo) -> TextPooling | None:
    """Check what a request asks of a model, and return the pooling it asks for.

    Raises:
        RequestError: the model does not embed, or does not know the pooling.
    """
    check_can("embedding", info)
    if request.pooling is None:
        return None
    for known in TEXT_POOLINGS:
        if known == request.pooling:
            return known
    raise RequestError(f"There is no pooling {request.pooling!r}.", hint=f"Use one of {', '.join(TEXT_POOLINGS)}.")


def embedding_inputs(request: EmbedRequest, vocab: Vocab) -> list[list[int]]:
    """Return the tokens of each input; token ids are taken as they are.

    Raises:
        RequestError: a text is empty.
    """
    n_inputs = len(request.inputs)
    return [_tokens(text, place(index, n_inputs), vocab) for index, text in enumerate(request.inputs)]


def _tokens(text: str | tuple[int, ...], name: str, vocab: Vocab) -> list[int]:
    if not isinstance(text, str):
        return list(text)
    if not text:
        raise RequestError(f"{name} is empty.", hint="Give at least one character, or one token.")
    return vocab.tokenize(text, add_special=True, parse_special=False)


def check_ranking(request: RankRequest, info: ModelInfo) -> None:
    """Check what a request asks of a model.

    Raises:
        RequestError: the model does not rank, or the query or the documents are empty.
    """
    check_can("rerank", info)
    if not request.query:
        raise RequestError("The query is empty.", hint="Give at least one character.")
    if not request.documents:
        raise RequestError("There are no documents.", hint="Give at least one.")


def ranking_inputs(request: RankRequest, model: Model) -> list[list[int]]:
    """Return the tokens of each pair of query and document.

    A model that brings a template named "rerank" (Qwen3-Reranker) gets its text; another gets the two texts, each with
    its special tokens, as a pair: [CLS] query [SEP] document [SEP] for BERT, <s> query </s></s> document </s> for
    RoBERTa.
    """
    template, vocab = model.chat_template("rerank"), model.vocab
    if template is not None:
        texts = (_filled(template, request.query, document) for document in request.documents)
        return [vocab.tokenize(text, add_special=False, parse_special=True) for text in texts]
    head = vocab.tokenize(request.query, add_special=True, parse_special=False)
    if vocab.add_eos and vocab.add_sep and vocab.sep is not None:
        head.append(vocab.sep)
    n_bos = int(vocab.add_bos)
    return [
        head + vocab.tokenize(document, add_special=True, parse_special=False)[n_bos:] for document in request.documents
    ]


def _filled(template: str, query: str, document: str) -> str:
    before, found, after = template.partition("{query}")
    return before.replace("{document}", document) + (query if found else "") + after.replace("{document}", document)
