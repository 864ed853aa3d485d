"""Part (a): the engine against a bare llama_decode loop, and the engine's own share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from intervals import ratio_interval
from ours import Ours, Settings, open_ours
from prompts import Prompts
from report import PartResult

from localllm.engine import SamplingParams
from localllm.engine.sampling import build_chain
from localllm.hardware.types import n_sequence_ids
from localllm.llama import Batch, Context, ContextParams, Model, SamplerChain

N_DECODE = 64
N_PREFILL = 512
HANDED_ON = "decode, each token handed to another thread"
_N_PROMPT = 16
MIN_RATIO = 0.97
MAX_OWN_SHARE = 0.02


class Bare:
    """The loop that everyone writes first: one sequence, llama_decode, the C sampler, and nothing else."""

    def __init__(self, settings: Settings, model: Model, n_seq_max: int) -> None:
        self._context = Context(
            model,
            ContextParams(
                n_ctx=settings.n_ctx,
                n_batch=settings.n_batch,
                n_ubatch=settings.n_ubatch,
                n_seq_max=n_seq_max,
                n_threads=settings.n_threads,
                kv_type_k=settings.kv_type,
                kv_type_v=settings.kv_type,
            ),
        )
        self._n_batch = settings.n_batch
        self._batch = Batch(settings.n_batch)
        # The same C work for the same request: greedy, and no token that ends the turn.
        self._chain = build_chain(SamplingParams(temperature=0.0), model.vocab, 0, model.vocab.eog_tokens)

    def _prefill(self, prompt: list[int]) -> int:
        self._context.memory.clear()
        index = 0
        for i in range(0, len(prompt), self._n_batch):
            run = prompt[i : i + self._n_batch]
            self._batch.clear()
            index = self._batch.add_run(run, i, 0, last_wants_logits=i + len(run) == len(prompt))
            self._decode()
        return self._chain.sample(self._context, index)

    def _decode(self) -> None:
        if self._context.decode(self._batch) != 0:
            raise RuntimeError("llama_decode failed")

    def prefill_s(self, prompt: list[int]) -> float:
        started = time.perf_counter()
        self._prefill(prompt)
        return time.perf_counter() - started

    def decode_s(self, prompt: list[int], n: int) -> float:
        """Return the seconds from the first token to the n-th after it."""
        token = self._prefill(prompt)
        batch, context, chain = self._batch, self._context, self._chain
        started = time.perf_counter()
        for pos in range(len(prompt), len(prompt) + n):
            batch.clear()
            batch.add(token, pos, 0, wants_logits=True)
            self._decode()
            token = chain.sample(context, 0)
        return time.perf_counter() - started

    def close(self) -> None:
        self._chain.close()
        self._context.close()


def engine_decode_s(ours: Ours, prompt: list[int], n: int, *, hands_on: bool = False) -> float:
    """Return the seconds from the first token to the n-th after it, both in the sink.

    `hands_on`: the sink hands each token to another thread, which the bare loop does not.
    """
    stream = ours.run(prompt, n + 1, hands_on=hands_on)
    return stream.made_s[-1] - stream.made_s[0]


def engine_prefill_s(ours: Ours, prompt: list[int]) -> float:
    """From submission to the first token, in the sink."""
    return ours.run(prompt, 1).ttft_s


@dataclass
class _CTime:
    """Seconds inside llama.cpp."""

    decode_s: float = 0.0
    sample_s: float = 0.0


@contextmanager
def c_time() -> Iterator[_CTime]:
    """Time every llama_decode and every C sampler call of this process, by wrapping the two methods around them."""
    spent = _CTime()
    decode, sample = Context.decode, SamplerChain.sample
    clock = time.perf_counter

    def timed_decode(self: Context, batch: Batch) -> int:
        started = clock()
        code = decode(self, batch)
        spent.decode_s += clock() - started
        return code

    def timed_sample(self: SamplerChain, context: Context, index: int) -> int:
        started = clock()
        token = sample(self, context, index)
        spent.sample_s += clock() - started
        return token

    Context.decode, SamplerChain.sample = timed_decode, timed_sample  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        Context.decode, SamplerChain.sample = decode, sample  # type: ignore[method-assign]


def own_share(ours: Ours, prompts: Prompts, n_streams: int, n_blocks: int) -> dict[str, float]:
    """Return where the time of steps goes while `n_streams` decode: shares of the engine's busy seconds."""
    with c_time() as spent:
        before = ours.stats()
        for _ in range(n_blocks):
            streams = [ours.start(prompts.noise(_N_PROMPT), N_DECODE, hands_on=False) for _ in range(n_streams)]
            for stream in streams:
                stream.wait()
        after = ours.stats()
    busy = after.busy_s - before.busy_s
    return {
        "busy_s": busy,
        "decode_share": spent.decode_s / busy,
        "sampler_share": spent.sample_s / busy,
        "own_share": 1 - (spent.decode_s + spent.sample_s) / busy,
        "own_us_per_step": 1e6 * (busy - spent.decode_s - spent.sample_s) / (after.n_steps - before.n_steps),
    }


def _pairs(n: int, ours: Callable[[], float], bare: Callable[[], float]) -> list[dict[str, float]]:
    """Measure in turns, A B then B A, so that drift cancels; the first pair warms up and is dropped."""
    pairs = []
    for i in range(n + 1):
        if i % 2:
            bare_s, ours_s = bare(), ours()
        else:
            ours_s, bare_s = ours(), bare()
        pairs.append({"engine_s": ours_s, "bare_s": bare_s})
    return pairs[1:]


def run(settings: Settings, model: Model, n_pairs: int) -> PartResult:
    result = PartResult(f"(a) The engine against a bare llama_decode loop, {n_pairs} pairs")
    prompts = Prompts(model.vocab, settings.seed)
    with open_ours(_in_process(settings), model) as ours:
        bare = Bare(settings, model, n_sequence_ids(settings.n_slots))
        try:
            _compare(result, ours, bare, prompts, n_pairs)
        finally:
            bare.close()
        _share(result, ours, prompts, n_blocks=max(2, n_pairs // 5))
    return result


def _in_process(settings: Settings) -> Settings:
    return replace(settings, worker=False)


def _compare(result: PartResult, ours: Ours, bare: Bare, prompts: Prompts, n_pairs: int) -> None:
    def decode(side: Callable[[list[int]], float]) -> Callable[[], float]:
        return lambda: side(prompts.noise(_N_PROMPT))

    def prefill(side: Callable[[list[int]], float]) -> Callable[[], float]:
        return lambda: side(prompts.noise(N_PREFILL))

    kinds = {
        f"decode, blocks of {N_DECODE}": (
            N_DECODE,
            3,  # the shorter block: three times as many cost as much
            decode(lambda p: engine_decode_s(ours, p, N_DECODE)),
            decode(lambda p: ours.call_on_engine(lambda: bare.decode_s(p, N_DECODE))),
        ),
        f"{HANDED_ON}, blocks of {N_DECODE}": (
            N_DECODE,
            1,
            decode(lambda p: engine_decode_s(ours, p, N_DECODE, hands_on=True)),
            decode(lambda p: ours.call_on_engine(lambda: bare.decode_s(p, N_DECODE))),
        ),
        f"prefill, blocks of {N_PREFILL}": (
            N_PREFILL,
            1,
            prefill(lambda p: engine_prefill_s(ours, p)),
            prefill(lambda p: ours.call_on_engine(lambda: bare.prefill_s(p))),
        ),
    }
    for kind, (n_tokens, n_rounds, ours_s, bare_s) in kinds.items():
        pairs = _pairs(n_pairs * n_rounds, ours_s, bare_s)
        interval = ratio_interval([p["bare_s"] / p["engine_s"] for p in pairs])
        speeds = [n_tokens * len(pairs) / sum(p[side] for p in pairs) for side in ("engine_s", "bare_s")]
        result.add(f"{kind}: engine, bare", f"{speeds[0]:.1f}, {speeds[1]:.1f} tok/s")
        result.add(f"{kind}: speed engine/bare", interval)
        if not kind.startswith(HANDED_ON):
            result.judge(
                f"engine/bare speed, {kind}",
                f"lower 95 % bound ≥ {MIN_RATIO}",
                f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
                interval.low >= MIN_RATIO,
            )
        result.raw[kind] = {"pairs": pairs, "ratio": interval.as_dict()}


def _share(result: PartResult, ours: Ours, prompts: Prompts, n_blocks: int) -> None:
    for n_streams in (1, 4):
        share = own_share(ours, prompts, n_streams, n_blocks)
        result.raw[f"own share, {n_streams} streams"] = share
        result.add(
            f"steps with {n_streams} streams",
            f"llama_decode {share['decode_share']:.2%}, C sampler {share['sampler_share']:.2%}, "
            f"engine {share['own_share']:.2%} ({share['own_us_per_step']:.0f} µs a step)",
        )
        result.judge(
            f"the engine's own share of a step, {n_streams} streams",
            f"< {MAX_OWN_SHARE:.0%}",
            f"{share['own_share']:.2%}",
            share["own_share"] < MAX_OWN_SHARE,
        )
