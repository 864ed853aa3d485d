"""Usage, timings and logprobs as OpenAI's and llama-server's clients read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from localllm.engine.events import Timings, TokenLogprob, Usage
from localllm.llm.events import Done, TokenChoice


def openai_usage(done: Sequence[Done]) -> dict[str, Any]:
    """Return the usage of all completions of a request; the prompt counts once, as it was computed once."""
    prompt = max((d.usage.prompt_tokens for d in done), default=0)
    completion = sum(d.usage.completion_tokens for d in done)
    cached = min((d.usage.cached_tokens for d in done), default=0)
    evicted = sum(d.usage.evicted_tokens for d in done)
    return evicted_usage(evicted) | {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": sum(d.reasoning_tokens for d in done)},
        **speculation_usage(done),
        **cache_usage(done),
    }


def evicted_usage(n_evicted: int) -> dict[str, int]:
    """Return our extension of every API's usage: how many tokens left the context; nothing where none did."""
    return {"evicted_tokens": n_evicted} if n_evicted else {}


def cache_usage(done: Sequence[Done]) -> dict[str, Any]:
    """Return how much of the prompt was reused, from where, and why not more: of the completion that reused least."""
    reports = [d.usage.cache for d in done if d.usage.cache is not None]
    return {"cache": msgspec.structs.asdict(min(reports, key=lambda report: report.reused))} if reports else {}


def speculation_usage(done: Sequence[Done]) -> dict[str, Any]:
    """Return what drafts did for all completions, if they were allowed; the speed-up is the mean."""
    reports = [d.usage.speculation for d in done if d.usage.speculation is not None]
    if not reports:
        return {}
    counts = {
        "kind": reports[0].kind,
        "drafted": sum(r.drafted for r in reports),
        "accepted": sum(r.accepted for r in reports),
        "speedup_est": sum(r.speedup_est for r in reports) / len(reports),
    }
    return {"speculation": counts}


def llama_timings(usage: Usage, timings: Timings) -> dict[str, Any]:
    """Return llama-server's `timings` of one completion, in milliseconds and tokens a second."""
    n_prompt = usage.prompt_tokens - usage.cached_tokens
    n_decoded = max(usage.completion_tokens - 1, 0)
    report = usage.speculation
    drafts = {} if report is None else {"draft_n": report.drafted, "draft_n_accepted": report.accepted}
    return {
        "cache_n": usage.cached_tokens,
        "prompt_n": n_prompt,
        "prompt_ms": 1e3 * timings.prefill_s,
        "prompt_per_second": timings.prefill_tok_s,
        "predicted_n": usage.completion_tokens,
        "predicted_ms": 1e3 * timings.decode_s,
        "predicted_per_token_ms": 1e3 * timings.decode_s / n_decoded if n_decoded else 0.0,
        "predicted_per_second": timings.decode_tok_s,
        "queue_ms": 1e3 * timings.queue_s,
        **drafts,
    }


def _candidate(choice: TokenLogprob) -> dict[str, Any]:
    return {
        "token": choice.piece.decode("utf-8", "replace"),
        "logprob": max(choice.logprob, -9999.0),
        "bytes": list(choice.piece),
    }


def chat_logprobs(choices: Sequence[TokenChoice]) -> dict[str, Any]:
    """Return the `logprobs` of a chat choice."""
    content = [{**_candidate(c.chosen), "top_logprobs": [_candidate(t) for t in c.top]} for c in choices]
    return {"content": content, "refusal": None}


class LegacyLogprobs:
    """The `logprobs` of the older completions API, which counts characters.

    Args:
        n_top: how many candidates to name.
        offset: characters of the text before.
    """

    def __init__(self, n_top: int, offset: int = 0) -> None:
        self._n_top = n_top
        self._first_offset = self._offset = offset

    def restarted(self) -> LegacyLogprobs:
        """Return one that counts from the beginning again."""
        return LegacyLogprobs(self._n_top, self._first_offset)

    def of(self, choices: Sequence[TokenChoice]) -> dict[str, Any]:
        """Return the lists for the next tokens."""
        texts = [c.chosen.piece.decode("utf-8", "replace") for c in choices]
        offsets = []
        for text in texts:
            offsets.append(self._offset)
            self._offset += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [max(c.chosen.logprob, -9999.0) for c in choices],
            "top_logprobs": [_top(c) for c in choices] if self._n_top else None,
            "text_offset": offsets,
        }


def _top(choice: TokenChoice) -> dict[str, float]:
    return {t.piece.decode("utf-8", "replace"): max(t.logprob, -9999.0) for t in choice.top}
