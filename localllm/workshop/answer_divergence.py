"""Two files of one model on one answer: loaded here, read, compared. Also as a process of its own.

    python -m localllm.workshop.answer_divergence < job.json > found.json

A program with an interface starts that process: a crash of llama.cpp ends it alone, and killing it gives up the work.
Weights that another process has mapped take no memory a second time.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import msgspec

from localllm.engine.events import ErrorInfo
from localllm.evaluate import Subject
from localllm.evaluate.along import divergence_along
from localllm.evaluate.memory import check_memory, lane_bytes
from localllm.hardware import available_ram_bytes
from localllm.llama import Model, ModelParams
from localllm.runtime.loading import load_model, plan_reader

_KV_TYPES = ("f16", "f16")
_N_CTX_MIN = 512


class AnswerJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared on what."""

    reference: str
    """Path of the model that gave the answer."""
    other: str
    tokens: tuple[int, ...]
    """The conversation and the answer, in the reference's vocabulary."""
    n_head: int
    """How many of them are before the answer."""


class AnswerDivergence(msgspec.Struct, frozen=True, kw_only=True):
    """What was found at each token of the answer."""

    pieces: tuple[bytes, ...]
    kl: tuple[float, ...]
    """KL(reference ‖ other) in nats."""
    same_top: tuple[bool, ...]
    reference_p: tuple[float, ...]
    other_p: tuple[float, ...]


class AnswerOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two."""

    found: AnswerDivergence | None = None
    error: ErrorInfo | None = None


def measure_answer(job: AnswerJob) -> AnswerDivergence:
    """Load both files and compare them along the answer.

    Raises:
        RequestError: the vocabularies differ; nothing is loaded for that.
        NotEnoughMemory: both do not fit.
        LocalLLMError: as `plan_reader` and `divergence_along`.
    """
    from localllm.evaluate.vocabulary import check_same_vocabulary

    paths = [Path(job.reference), Path(job.other)]
    with ExitStack() as stack:
        bare = [stack.enter_context(Model(path, ModelParams(vocab_only=True))) for path in paths]
        check_same_vocabulary(*bare)
    n_ctx = max(len(job.tokens), _N_CTX_MIN)
    planned = [plan_reader(path, n_ctx, gpu_layers="auto", n_threads=None) for path in paths]
    if not any(plan.n_gpu_layers for _, plan in planned):
        need_bytes = sum(shape.weights_bytes + lane_bytes(shape, _KV_TYPES, n_ctx) for shape, _ in planned)
        check_memory(need_bytes, 2, available_ram_bytes())
    with ExitStack() as stack:
        models = [
            stack.enter_context(load_model(path, plan.n_gpu_layers, None))
            for path, (_, plan) in zip(paths, planned, strict=True)
        ]
        reference, other = (
            Subject(model, *_KV_TYPES, plan.n_threads) for model, (_, plan) in zip(models, planned, strict=True)
        )
        along = divergence_along(reference, other, job.tokens, job.n_head)
        pieces = tuple(models[0].vocab.piece(token, special=True) for token in job.tokens[job.n_head :])
    return AnswerDivergence(
        pieces=pieces,
        kl=tuple(along.kl.tolist()),
        same_top=along.same_top,
        reference_p=tuple(along.reference_p.tolist()),
        other_p=tuple(along.other_p.tolist()),
    )


def main() -> None:
    """Do the job on stdin, and write the outcome to stdout."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # llama.cpp may print where nobody expects it.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        outcome = AnswerOutcome(found=measure_answer(msgspec.json.decode(sys.stdin.buffer.read(), type=AnswerJob)))
    except Exception as error:
        outcome = AnswerOutcome(error=ErrorInfo.of(error))
    with out:
        out.write(msgspec.json.encode(outcome))


if __name__ == "__main__":
    main()
