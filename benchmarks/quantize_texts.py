"""Texts to measure quantized models with, none of which the calibration has seen: prose, code and conversations."""

from __future__ import annotations

import json
import queue
import sysconfig
from pathlib import Path

from localllm.engine import Engine, Event, FinishEvent, GenerationRequest, SamplingParams, TokenEvent
from localllm.evaluate import Chunks, default_text
from localllm.hardware.types import LoadPlan, MemoryEstimate
from localllm.llama import Model

MODULES = ("statistics.py", "difflib.py", "argparse.py", "zipfile.py", "ipaddress.py", "tarfile.py")
"""Of Python's standard library."""
N_CHAT_CTX = 256
"""Tokens of a chunk of conversation: a question of at most half, and an answer, whose tokens fill the scored half."""
_ASKED = (
    "Explain to a beginner how {} works.", "Write a long letter to a friend about {}.",
    "What are the advantages and drawbacks of {}? Answer in detail.", "Tell a story in which {} matters.",
)  # fmt: skip
_SUBJECTS = (
    "a sailing boat", "the human heart", "a vegetable garden", "a library card", "bread", "a thunderstorm", "chess",
    "the night train", "a bicycle", "photography", "a lighthouse", "glass", "a beehive", "the tides", "an election",
    "paper money",
)  # fmt: skip


def eval_sets(model: Model, n_chunks: int, n_ctx: int, n_threads: int, chats: Path) -> dict[str, Chunks]:
    """Return the chunks of each set; the conversations are the model's own answers, drawn once and kept in `chats`.

    What is drawn depends on rounding, so another run would draw others.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    code = "\n\n".join((library / name).read_text(encoding="utf-8")[:24_000] for name in MODULES)
    return {
        "prose": Chunks.of_text(default_text(), model.vocab, n_ctx, n_chunks),
        "code": Chunks.of_text(code, model.vocab, n_ctx, n_chunks),
        "chat": kept_conversations(model, n_chunks * n_ctx // N_CHAT_CTX, n_threads, chats),
    }


def kept_conversations(model: Model, n_chunks: int, n_threads: int, path: Path) -> Chunks:
    """Return the conversations of a file, which is made if it has too few."""
    tokens = json.loads(path.read_text()) if path.exists() else []
    if len(tokens) < n_chunks:
        tokens = conversations(model, n_chunks, n_threads).tokens
        path.write_text(json.dumps(tokens))
    return Chunks(N_CHAT_CTX, tuple(map(tuple, tokens[:n_chunks])))


def conversations(model: Model, n_chunks: int, n_threads: int) -> Chunks:
    """Return the first answers that are long enough, sampled eight at a time with temperature 0.8 and a seed each."""
    from spec_tasks import chat_prompt

    questions = [asked.format(subject) for subject in _SUBJECTS for asked in _ASKED]
    prompts = [chat_prompt(model.vocab, question) for question in questions]
    plan = LoadPlan(
        path=str(model.path), n_ctx=8 * N_CHAT_CTX, n_slots=8, n_gpu_layers=0, kv_type_k="f16", kv_type_v="f16",
        n_batch=512, n_ubatch=512, n_threads=n_threads, estimate=MemoryEstimate(0, 0, 0), spec="off",
    )  # fmt: skip
    engine, chunks = Engine(model, plan), []
    try:
        for start in range(0, len(prompts), 8):
            some = prompts[start : start + 8]
            for prompt, answer in zip(some, _answers(engine, some, start), strict=True):
                tokens = [*prompt, *answer][:N_CHAT_CTX]
                if len(tokens) == N_CHAT_CTX and len(prompt) <= N_CHAT_CTX // 2:
                    chunks.append(tuple(tokens))
            if len(chunks) >= n_chunks:
                break
    finally:
        engine.close()
    return Chunks(N_CHAT_CTX, tuple(chunks[:n_chunks]))


def _answers(engine: Engine, prompts: list[list[int]], seed: int) -> list[list[int]]:
    events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
    for index, prompt in enumerate(prompts):
        request = GenerationRequest(
            prompt=tuple(prompt),
            max_tokens=N_CHAT_CTX - len(prompt),
            sampling=SamplingParams(temperature=0.8, seed=seed + index),
        )
        engine.submit(request, lambda event, index=index: events.put((index, event)))
    answers: list[list[int]] = [[] for _ in prompts]
    n_left = len(prompts)
    while n_left:
        index, event = events.get()
        if isinstance(event, TokenEvent):
            answers[index].append(event.token)
        elif isinstance(event, FinishEvent):
            n_left -= 1
    return answers
