"""An answer that may take only so long, for editors that would rather have a part of it at once."""

from __future__ import annotations

import time
from contextlib import aclosing

from localllm.engine.events import Timings, Usage
from localllm.llm.events import Done, Progress, TextDelta
from localllm.server.answering import Events


async def within(events: Events, limit_s: float) -> Events:
    """Pass the events of one completion on, and end it `limit_s` after its first text, once it has a whole line.

    The usage of a completion that is ended here counts tokens by their logprobs, so ask for those.
    """
    began_s = time.monotonic()
    first_s: float | None = None
    text, n_tokens, n_prompt, n_cached = "", 0, 0, 0
    async with aclosing(events):
        async for event in events:
            yield event
            if isinstance(event, Progress):
                n_prompt, n_cached = event.n_total, event.n_cached
            if not isinstance(event, TextDelta):
                continue
            now_s = time.monotonic()
            first_s = now_s if first_s is None else first_s
            text += event.text
            n_tokens += len(event.logprobs)
            if now_s - first_s >= limit_s and "\n" in text:
                usage = Usage(prompt_tokens=n_prompt, completion_tokens=n_tokens, cached_tokens=n_cached)
                timings = _timings(first_s - began_s, now_s - first_s, usage)
                yield Done(text=text, finish_reason="length", usage=usage, timings=timings, cause="max_tokens")
                return


def _timings(ttft_s: float, decode_s: float, usage: Usage) -> Timings:
    n_read = usage.prompt_tokens - usage.cached_tokens
    return Timings(
        queue_s=0.0,
        ttft_s=ttft_s,
        prefill_s=ttft_s,
        decode_s=decode_s,
        prefill_tok_s=n_read / ttft_s if ttft_s > 0 else 0.0,
        decode_tok_s=max(usage.completion_tokens - 1, 0) / decode_s if decode_s > 0 else 0.0,
    )
