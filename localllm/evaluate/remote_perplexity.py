"""Perplexity of a remote's model: the chunks, the scored tokens and the standard error are those of `localllm eval`.

OpenAI's API has two ways to the log-probability of a token that is given:

- echo: one request for a chunk, where the server tells the log-probabilities of a prompt (vLLM, SGLang).
- forced: one request for each scored token, whose bias makes it the one that comes, where the server tells the model's
  own log-probability of it and keeps the beginning that requests share (llama-server, localllm).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from localllm.errors import ContextLengthExceeded, RequestError
from localllm.evaluate.chunks import Chunks
from localllm.evaluate.results import Estimate, perplexity_of
from localllm.remotes import RemoteClient
from localllm.remotes.client import COMPLETIONS

_BIAS = 100.0
"""The largest that OpenAI's API has; no model's logits differ by as much."""
_FORCED = ("llama-server", "localllm")
"""Engines that are known to tell the log-probability from before the bias."""

OnToken = Callable[[int, int], None]
"""Called with the scored tokens that are done, and all there are."""


@dataclass(frozen=True)
class RemoteEvaluation:
    """What a remote's model made of a text."""

    perplexity: Estimate
    n_scored: int
    n_ctx: int
    n_chunks: int
    n_requests: int
    way: str
    """ "echo" or "forced"."""
    seconds: float


def remote_perplexity(
    client: RemoteClient, text: str, n_ctx: int, n_chunks: int | None, on_token: OnToken | None = None
) -> RemoteEvaluation:
    """Measure how well a remote's model predicts a text.

    Raises:
        RequestError: the server has no way to tell; the hint says which servers have one.
        ServerError: it fails or falls silent.
    """
    started_s = time.perf_counter()
    tokens = _tokenized(client, text, add_special=False)
    bos = _bos(client)
    chunks = Chunks.of_tokens([*([] if bos is None else [bos]), *tokens], n_ctx, n_chunks, bos=bos)
    n_all = chunks.n_scored * chunks.n_chunks
    reader = _Reader(client, chunks.first)
    values: list[float] = []
    for chunk in chunks.tokens:
        for value in reader.log_probs(chunk):
            values.append(value)
            if on_token is not None:
                on_token(len(values), n_all)
    return RemoteEvaluation(
        perplexity_of(-np.asarray(values, dtype=np.float64)),
        len(values),
        n_ctx,
        chunks.n_chunks,
        reader.n_requests,
        "forced" if reader.is_forced else "echo",
        time.perf_counter() - started_s,
    )


class _Reader:
    """Asks for the log-probabilities of chunks, in the way that the server has."""

    def __init__(self, client: RemoteClient, first: int) -> None:
        self._client = client
        self._first = first
        self.is_forced = client.engine.name in _FORCED
        self.n_requests = 0

    def log_probs(self, chunk: Sequence[int]) -> Sequence[float] | Any:
        """Return, or yield, ln p of each scored token of a chunk."""
        if self.is_forced:
            return (self._of_next(chunk[:place], chunk[place]) for place in range(self._first + 1, len(chunk)))
        return self._of_prompt(chunk)

    def _of_prompt(self, chunk: Sequence[int]) -> list[float]:
        choice = self._ask({"prompt": list(chunk), "echo": True, "logprobs": 1})
        logprobs = choice.get("logprobs")
        found = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
        scored = found[self._first + 1 : len(chunk)] if isinstance(found, list) else []
        if len(scored) != len(chunk) - self._first - 1 or not all(isinstance(value, int | float) for value in scored):
            raise self._cannot()
        return [float(value) for value in scored]

    def _of_next(self, prompt: Sequence[int], token: int) -> float:
        choice = self._ask({"prompt": list(prompt), "logprobs": 1, "logit_bias": {str(token): _BIAS}})
        logprobs = choice.get("logprobs")
        if not isinstance(logprobs, dict):
            raise self._cannot()
        content, values = logprobs.get("content"), logprobs.get("token_logprobs")
        if isinstance(content, list) and content and isinstance(content[0], dict):
            values = [content[0].get("logprob")] if content[0].get("id", token) == token else None
        if not isinstance(values, list) or not values or not isinstance(values[0], int | float):
            raise self._cannot()
        return float(values[0])

    def _ask(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.n_requests += 1
        try:
            answer = self._client.post(COMPLETIONS, {"max_tokens": 1, "temperature": 0.0, **fields})
        except ContextLengthExceeded:
            raise
        except RequestError as error:
            raise self._cannot(f" It says: {error.message}") from error
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self._cannot()
        return choices[0]

    def _cannot(self, more: str = "") -> RequestError:
        client = self._client
        return RequestError(
            f"{client.remote.name} ({client.engine.name}) does not tell the log-probabilities of a text.{more}",
            hint="vLLM, SGLang, llama-server and localllm do. Where you have the model's file: localllm eval FILE",
        )


def _tokenized(client: RemoteClient, text: str, *, add_special: bool) -> list[int]:
    """Return a text's tokens; servers name the same fields in two ways."""
    body = {
        "content": text,
        "prompt": text,
        "add_special": add_special,
        "add_special_tokens": add_special,
        "parse_special": False,
    }
    tokens = client.post("/tokenize", body).get("tokens")
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        raise RequestError(
            f"{client.remote.name} does not tell the tokens of a text, so that chunks cannot be cut.",
            hint="vLLM, SGLang, llama-server and localllm have /tokenize.",
        )
    return tokens


def _bos(client: RemoteClient) -> int | None:
    """Return the token that the model expects before a text; None where it expects none."""
    bare, dressed = (_tokenized(client, "a", add_special=special) for special in (False, True))
    return dressed[0] if dressed[1:] == bare else None
