"""Filling a gap in a text, for every API that can ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from localllm.llm.model import LLM
from localllm.server.answering import Events
from localllm.server.wire.gap import Gap

_ANSWER_SHARE = 4
"""Where no length is asked for, one token of the context in so many is for the answer."""


async def infill(llm: LLM, gap: Gap, options: Mapping[str, Any]) -> Events:
    """Write what belongs in a gap."""

    def make_prompt() -> list[int]:
        limit = _max_prompt_tokens(llm.info.n_ctx, options.get("max_tokens")) if gap.is_cut else None
        prompt = llm.infill_prompt(gap.prefix, gap.suffix, extra=gap.extra, max_prompt_tokens=limit)
        gap.n_dropped = prompt.n_dropped
        return prompt.tokens

    tokens = await asyncio.to_thread(make_prompt)
    async with aclosing(llm.agenerate(tokens, **options)) as events:
        async for event in events:
            yield event


def _max_prompt_tokens(n_ctx: int, max_tokens: int | None) -> int:
    wanted = n_ctx // _ANSWER_SHARE if max_tokens is None else max_tokens
    return n_ctx - 1 - min(wanted, n_ctx // 2)
