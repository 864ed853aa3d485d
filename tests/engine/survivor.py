"""A process with an engine and a store, to be killed: it answers one prompt and is slow to finish what it saves.

    python -m tests.engine.survivor MODEL FOLDER

Its file is complete on the disk, but for its name, for a minute.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from localllm.engine import Engine
from localllm.engine.kv_store import KVStore
from localllm.hardware.types import LoadPlan, MemoryEstimate
from localllm.llama import Model
from tests.engine.driving import STEADY_KV, generate, prompt_of

PROMPT = prompt_of(100, 400)
N_TOKENS = 12


def plan() -> LoadPlan:
    """Return how the model is loaded here."""
    return LoadPlan(
        path="",
        n_ctx=2048,
        n_slots=4,
        n_gpu_layers=0,
        kv_type_k=STEADY_KV,
        kv_type_v=STEADY_KV,
        n_batch=512,
        n_ubatch=512,
        n_threads=1,
        estimate=MemoryEstimate(0, 0, 0),
        spec="off",
    )


def main(model_path: str, folder: str) -> None:
    """Answer, and save until killed."""
    real_fsync = os.fsync

    def slow(descriptor: int) -> None:
        real_fsync(descriptor)
        time.sleep(60)

    os.fsync = slow
    with Model(Path(model_path)) as model:
        engine = Engine(model, plan(), store=KVStore(Path(folder), "model", 1 << 30))
        generate(engine, PROMPT, max_tokens=N_TOKENS, ignore_eos=True)
        engine.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
