"""Drafts change no token: python benchmarks/lossless.py [--model REF] [--modes ngram ...] [--kv-type f16] [--json OUT]

Greedy answers to --prompts prompts (copying, editing, extracting, stories), --tokens tokens each, one after the other:
once without drafts, once with each drafter forced. Where an answer differs, its first difference is shown: the gap
between the two candidates' logprobs without drafts, and how far the logprobs of the 20 likeliest tokens moved there.

Wider batches take other kernels, which add in another order. What that alone does is measured first, without the
engine: known answers are evaluated token by token and some at a time, and the logprobs of the 20 likeliest compared. A
first difference is explained if logprobs moved no further there, and the gap was no larger than two such moves.

The draft model of the mode draft is --draft-model, or the model itself with four layers pruned.
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from report import PartResult, introduce
from spec_answers import Answer, Settings, start
from spec_prompts import mixed_prompts

from localllm.engine import Engine, TokenEvent
from localllm.hardware import n_compute_threads
from localllm.llama import Batch, Context, ContextParams, Model, QuantizeParams, quantize_model
from localllm.store import resolve

Q8_0 = 7
"""llama.cpp's LLAMA_FTYPE_MOSTLY_Q8_0."""
N_TOP = 20
WIDTHS = (5, 16, 48)
N_CONTROL = 12
"""Answers on which rounding alone is measured."""


@dataclass(frozen=True)
class Difference:
    """Where two greedy answers to one prompt part."""

    prompt: int
    position: int
    gap: float
    """Between the logprobs of the two tokens, without drafts."""
    drift: float
    """Largest move of a logprob there, among the likeliest tokens."""


def main() -> None:
    args = parse_args()
    path = resolve(args.model)
    settings = Settings(path, 0, args.tokens, args.threads, args.kv_type, "off")
    asked = f"kv_type {args.kv_type}, n_threads {args.threads}, prompts {args.prompts}, tokens {args.tokens}"
    introduce(path, settings=asked)
    with Model(path) as model, ExitStack() as stack:
        draft = None
        if "draft" in args.modes:
            draft = stack.enter_context(Model(args.draft_model or pruned(path, model, stack)))
        prompts = mixed_prompts(model.vocab, args.prompts)
        with closing(Engine(model, settings.plan)) as engine:
            plain = [answer(engine, prompt, args, "off") for prompt in prompts]
        limit = rounding(model, settings, prompts[:N_CONTROL], plain[:N_CONTROL])
        print(f"rounding alone, {WIDTHS} tokens a batch over 1: a logprob moves up to {limit:.3f}")
        found = {}
        for mode in args.modes:
            with closing(Engine(model, settings.plan, draft_model=draft if mode == "draft" else None)) as engine:
                answers = [answer(engine, prompt, args, mode) for prompt in prompts]
            found[mode] = compare(mode, plain, answers, limit)
    if args.json:
        args.json.write_text(json.dumps({"rounding": limit, "modes": found}, indent=1) + "\n", encoding="utf-8")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a path or a name; the demo model by default")
    parser.add_argument("--modes", nargs="+", default=["ngram", "lookahead", "draft"])
    parser.add_argument("--draft-model", type=Path, help="for the mode draft")
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--kv-type", default="f16")
    parser.add_argument("--json", type=Path, help="write all numbers there")
    return parser.parse_args()


def answer(engine: Engine, prompt: list[int], args: argparse.Namespace, mode: Any) -> Answer:
    return start(engine, prompt, args.tokens, mode, ignore_eos=True, n_logprobs=N_TOP).wait()


def pruned(path: Path, model: Model, stack: ExitStack) -> Path:
    """Write the model without four of its later layers; the file lives as long as the stack."""
    folder = stack.enter_context(TemporaryDirectory())
    at = model.n_layer * 2 // 3
    params = QuantizeParams(Q8_0, allow_requantize=True, prune_layers=tuple(range(at, at + 8, 2)))
    quantize_model(path, Path(folder) / "draft.gguf", params)
    return Path(folder) / "draft.gguf"


def compare(mode: str, plain: list[Answer], answers: list[Answer], limit: float) -> dict[str, Any]:
    """Print and return where answers with drafts differ from those without."""
    result = PartResult(f"drafts by {mode}")
    pairs = zip(plain, answers, strict=True)
    differences = [d for i, (a, b) in enumerate(pairs) if (d := first_difference(i, a.events, b.events)) is not None]
    drafted, accepted = (sum(a.report.get(key, 0) for a in answers) for key in ("drafted", "accepted"))
    result.add("answers that are the same", f"{len(plain) - len(differences)} of {len(plain)}")
    result.add("tokens drafted, accepted", f"{drafted}, {accepted}")
    for d in differences:
        result.add(f"prompt {d.prompt} differs at token {d.position}", f"gap {d.gap:.3f}, drift {d.drift:.3f}")
    n_unexplained = sum(d.drift > limit or d.gap > 2 * limit for d in differences)
    result.judge("drafts are accepted", "> 0", accepted, accepted > 0)
    result.judge("first differences that are no near-ties", "0", n_unexplained, n_unexplained == 0)
    result.print()
    return {"drafted": drafted, "accepted": accepted, "differences": [asdict(d) for d in differences]}


def first_difference(prompt: int, plain: list[TokenEvent], drafted: list[TokenEvent]) -> Difference | None:
    for position, (a, b) in enumerate(zip(plain, drafted, strict=True)):
        if a.token != b.token:
            before = {t.token: t.logprob for t in a.top_logprobs}
            after = {t.token: t.logprob for t in b.top_logprobs}
            drift = max(abs(before[token] - after[token]) for token in before.keys() & after.keys())
            return Difference(prompt, position, abs(before[a.token] - before[b.token]), drift)
    return None


def rounding(model: Model, settings: Settings, prompts: list[list[int]], answers: list[Answer]) -> float:
    """Return the largest move of a logprob of the likeliest tokens, over the answers, by the width of batches alone."""
    params = ContextParams(
        n_ctx=2048,
        n_outputs_max=max(WIDTHS),
        n_threads=settings.n_threads,
        kv_type_k=settings.kv_type,
        kv_type_v=settings.kv_type,
    )
    moves = [0.0]
    with Context(model, params) as context:
        batch = Batch(params.n_batch)
        for prompt, known in zip(prompts, answers, strict=True):
            narrow = logprobs(context, batch, prompt, known.tokens, len(prompt), 1)
            top = np.argpartition(narrow, -N_TOP, axis=1)[:, -N_TOP:]
            for width in WIDTHS:
                wide = logprobs(context, batch, prompt, known.tokens, width, width)
                moves.append(float(np.abs(np.take_along_axis(narrow - wide, top, axis=1)).max()))
    return max(moves)


def logprobs(
    context: Context, batch: Batch, prompt: list[int], tokens: list[int], n_chunk: int, width: int
) -> np.ndarray:
    """Return the logprobs after each token of a known answer, evaluated `width` at a time: [n, n_vocab] float32."""
    context.memory.clear()
    for at in range(0, len(prompt), n_chunk):
        batch.clear()
        batch.add_run(prompt[at : at + n_chunk], at, 0, last_wants_logits=True)
        assert context.decode(batch) == 0
    rows = []
    for at in range(0, len(tokens), width):
        batch.clear()
        batch.add_outputs(tokens[at : at + width], len(prompt) + at, 0)
        assert context.decode(batch) == 0
        rows += [log_softmax(context.logits(i)) for i in range(len(tokens[at : at + width]))]
    return np.array(rows)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)


if __name__ == "__main__":
    main()
