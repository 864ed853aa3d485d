"""Measures one model's speed in a process of its own: it holds all cores, and a crash is its own.

    python -m tui.machine.speed_child MODEL THREADS GPU_LAYERS

Writes JSON lines: how far it is, and at the end the result or the error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tui.machine.check_child import Write, print_line

_N_CTX = 512
_N_CHARACTERS = 4000
"""More than enough for the tokens that are timed."""


def main(arguments: Sequence[str], write: Write) -> None:
    """Measure, and say what came of it."""
    from localllm.errors import LocalLLMError

    ref, threads, layers = arguments
    try:
        write({"result": _measured(ref, threads, layers, write)})
    except LocalLLMError as error:
        write({"error": {"message": error.message, "hint": error.hint}})


def _measured(ref: str, threads: str, layers: str, write: Write) -> dict[str, Any]:
    from localllm import __version__
    from localllm.evaluate.lane import Subject
    from localllm.evaluate.speed import measure_speed
    from localllm.evaluate.text import default_text
    from localllm.gguf import read_header, summarize
    from localllm.llama import build_info, list_devices
    from localllm.runtime.loading import load_model, plan_reader
    from localllm.store import resolve

    path = resolve(ref or None)
    n_threads = int(threads) if threads.isdecimal() else None
    gpu_layers: Any = int(layers) if layers.isdecimal() else layers
    _, plan = plan_reader(path, _N_CTX, gpu_layers=gpu_layers, n_threads=n_threads)
    with load_model(path, plan.n_gpu_layers, lambda share: write({"share": share})) as model:
        tokens = model.vocab.tokenize(default_text()[:_N_CHARACTERS], add_special=True, parse_special=False)
        subject = Subject(model, n_threads=plan.n_threads)
        (speed,) = measure_speed([subject], tokens, lambda n, of: write({"round": n, "of": of}))
    cpu = next((device.description for device in list_devices() if device.kind == "cpu"), "")
    return {
        "model": ref or path.stem,
        "file_type": summarize(read_header(path)).file_type or "",
        "prompt_tok_s": speed.prompt.median,
        "generation_tok_s": speed.generation.median,
        "low_tok_s": speed.generation.low,
        "high_tok_s": speed.generation.high,
        "n_prompt": speed.n_prompt,
        "n_generated": speed.n_generated,
        "n_threads": plan.n_threads,
        "n_gpu_layers": plan.n_gpu_layers,
        "machine": ", ".join([cpu, *(device.description for device in plan.devices)]),
        "version": __version__,
        "llama_cpp": build_info(),
    }


if __name__ == "__main__":
    main(sys.argv[1:], print_line)
