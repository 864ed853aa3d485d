"""One question, two answers: loading, asking both at once where both fit, and comparing them. No widgets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from localllm.errors import LocalLLMError
from tui.compare.divergence import DivergenceState, measure, why_not
from tui.compare.fitting import N_CTX, fit_together
from tui.compare.side import MAX_TOKENS, Side, SideState
from tui.engines import Engines, is_local

if TYPE_CHECKING:
    from localllm.config import Settings
    from localllm.llm import LLM
    from localllm.workshop.answer_divergence import AnswerDivergence, AnswerJob

Fits = Callable[[Sequence[str], int | None], bool]
Measure = Callable[["AnswerJob"], Awaitable["AnswerDivergence"]]


class Contest:
    """Asks two sides the same. All methods are called on the interface's thread.

    Args:
        engines: where models come from.
        settings: how they are loaded.
        changed: called whenever something here has changed.
        fits: see `fit_together`. Tests script one.
        measure: see `divergence.measure`. Tests script one.
    """

    def __init__(
        self,
        engines: Engines,
        settings: Settings,
        changed: Callable[[], None],
        fits: Fits = fit_together,
        measure: Measure = measure,
    ) -> None:
        self.states = [SideState(), SideState()]
        self.divergence = DivergenceState()
        self.question = ""
        self.sides: tuple[Side, Side] | None = None
        self._engines = engines
        self._n_ctx = settings.n_ctx or N_CTX
        self._changed = changed
        self._fits = fits
        self._measure = measure
        self._task: asyncio.Task[None] | None = None

    @property
    def is_busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def is_decidable(self) -> bool:
        """Whether there are two answers to choose from."""
        return all(state.phase in ("done", "stopped") and state.text for state in self.states)

    def ask(self, question: str, sides: tuple[Side, Side]) -> None:
        """Begin; what was going on is stopped."""
        if self._task is not None:
            self._task.cancel()
        self.question, self.sides = question, sides
        self.states, self.divergence = [SideState("loading"), SideState("loading")], DivergenceState()
        self._changed()
        self._task = asyncio.create_task(self._run(sides))

    async def stop(self) -> None:
        """End what is going on; what has been said so far stays."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self, sides: tuple[Side, Side]) -> None:
        try:
            if await self._both_fit(sides):
                await asyncio.gather(
                    *(self._answer(place, side, beside=bool(place)) for place, side in enumerate(sides))
                )
            else:
                self._set(1, phase="waiting")
                await self._answer(0, sides[0])
                job = await self._prepared(sides)
                await self._engines.close(sides[0].ref)
                await self._answer(1, sides[1])
                await self._diverge(job)
                return
            await self._diverge(await self._prepared(sides))
        except asyncio.CancelledError:
            for place, state in enumerate(self.states):
                if state.phase not in ("done", "failed"):
                    self._set(place, phase="stopped")
            if self.divergence.phase == "computing":
                self._tell(DivergenceState("undefined", reason="KL divergence: stopped."))
            raise
        except LocalLLMError as error:
            for place, state in enumerate(self.states):
                if state.phase not in ("done", "failed"):
                    self._set(place, phase="failed", error=error)

    async def _both_fit(self, sides: tuple[Side, Side]) -> bool:
        refs = list(dict.fromkeys(side.ref for side in sides if is_local(side.ref)))
        ready = [state.ref for state in self._engines.states if state.phase == "ready"]
        missing = [ref for ref in refs if ref not in ready]
        return not missing or len(refs) < 2 or await asyncio.to_thread(self._fits, refs, self._n_ctx)

    async def _answer(self, place: int, side: Side, *, beside: bool = False) -> None:
        """Load one side and stream its answer; its failure is its own."""
        self._set(place, phase="loading")
        given: dict[str, Any] = {"n_ctx": self._n_ctx} if is_local(side.ref) else {}
        try:
            # The first one may push out what is idle, the second one must not push out the first.
            with self._engines.using(side.ref):
                llm = await self._engines.open(side.ref, beside=beside, **given)
                self._set(place, phase="answering")
                await self._stream(place, llm, side)
        except LocalLLMError as error:
            self._set(place, phase="failed", error=error)

    async def _stream(self, place: int, llm: LLM, side: Side) -> None:
        from localllm.llm.events import Done, ReasoningDelta, TextDelta

        options: dict[str, Any] = {"max_tokens": MAX_TOKENS, **side.options}
        async with aclosing(llm.achat(self.question, **options)) as events:
            async for event in events:
                state = self.states[place]
                if isinstance(event, TextDelta):
                    self._set(place, text=state.text + event.text, n_tokens=state.n_tokens + 1)
                elif isinstance(event, ReasoningDelta):
                    self._set(place, reasoning=state.reasoning + event.text, n_tokens=state.n_tokens + 1)
                elif isinstance(event, Done):
                    timings, n_tokens = event.timings, event.usage.completion_tokens
                    self._set(place, phase="done", n_tokens=n_tokens, ttft_s=timings.ttft_s, tok_s=timings.decode_tok_s)

    async def _prepared(self, sides: tuple[Side, Side]) -> AnswerJob | None:
        """Return what the divergence is computed from, while A's model is there; None where there can be none."""
        a, b = sides
        if self.states[0].phase != "done" or not self.states[0].text:
            self._undefined("A gave no answer.")
            return None
        if not (is_local(a.ref) and is_local(b.ref)):
            self._undefined("it is computed of models on this disk only.")
            return None
        if a.ref == b.ref:
            self._undefined("both sides are the same model, so its distributions are the same.")
            return None
        try:
            return await asyncio.to_thread(self._make_job, await self._engines.open(a.ref), a, b)
        except LocalLLMError as error:
            self._tell(why_not(error))
            return None

    def _make_job(self, llm: LLM, a: Side, b: Side) -> AnswerJob:
        from localllm.store import resolve
        from localllm.workshop.answer_divergence import AnswerJob

        state = self.states[0]
        answer = {"role": "assistant", "content": state.text}
        thought = {"reasoning": state.reasoning} if state.reasoning else {}
        messages = [{"role": "user", "content": self.question}, {**answer, **thought}]
        tokens = llm.answer_tokens(messages)
        paths = {"reference": str(resolve(a.ref)), "other": str(resolve(b.ref))}
        return AnswerJob(**paths, tokens=tokens.head + tokens.answer, n_head=len(tokens.head))

    async def _diverge(self, job: AnswerJob | None) -> None:
        if job is None or self.states[1].phase == "failed":
            return
        self._tell(DivergenceState("computing"))
        try:
            self._tell(DivergenceState("done", await self._measure(job)))
        except LocalLLMError as error:
            self._tell(why_not(error))

    def _undefined(self, reason: str) -> None:
        self._tell(DivergenceState("undefined", reason=f"KL divergence: {reason}"))

    def _tell(self, divergence: DivergenceState) -> None:
        self.divergence = divergence
        self._changed()

    def _set(self, place: int, **changes: Any) -> None:
        self.states[place] = replace(self.states[place], **changes)
        self._changed()

    def loading(self, ref: str, share: float) -> None:
        """Take over how far a model is loaded."""
        for place, state in enumerate(self.states):
            if self.sides is not None and self.sides[place].ref == ref and state.phase == "loading":
                self._set(place, share=share)
