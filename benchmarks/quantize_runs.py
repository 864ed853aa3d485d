"""Do quantized files run: python benchmarks/quantize_runs.py FILE.gguf ... [--json OUT]

Each file is opened by our engine and by llama.cpp's own server, and asked the same questions, greedily. Printed are the
answers; a file passes where both answer at least half of the questions with the word that is expected.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ours import Settings, open_ours
from peer import Peer
from report import PartResult, count_claims, introduce, write_parts
from spec_tasks import chat_prompt

from localllm.hardware import n_compute_threads
from localllm.llama import Model

QUESTIONS = {
    "What is the capital of France? Answer in one sentence.": "Paris",
    "What is 2 + 2? Answer with a number.": "4",
    "Write a Python function that adds two numbers.": "def ",
    "Which colour is the sky on a clear day?": "blue",
}
N_TOKENS = 48
WANTED_SHARE = 0.5


def ask(path: Path, n_threads: int) -> dict[str, dict[str, str]]:
    """Return what both answer to each question."""
    settings = Settings(path, 1024, 1, n_threads, "f16", 256, 256, 0, worker=False)
    found: dict[str, dict[str, str]] = {}
    with Model(path) as model, open_ours(settings, model) as ours, Peer(settings) as peer:
        for question in QUESTIONS:
            prompt = chat_prompt(model.vocab, question)
            found[question] = {
                "ours": ours.run(prompt, N_TOKENS).text,
                "peer": peer.run(prompt, N_TOKENS).text,
            }
    return found


def judge(path: Path, answers: dict[str, dict[str, str]]) -> PartResult:
    part = PartResult(f"{path.name}, {path.stat().st_size:,} bytes")
    for question, sides in answers.items():
        for side, text in sides.items():
            part.add(f"{side}: {question}", text.strip().replace("\n", " ")[:100])
    for side in ("ours", "peer"):
        right = [QUESTIONS[question] in sides[side] for question, sides in answers.items()]
        part.judge(f"answers, {side}", f"at least {WANTED_SHARE:.0%}", f"{sum(right)} of {len(right)}",
                   sum(right) >= WANTED_SHARE * len(right))  # fmt: skip
    part.raw = answers
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    facts = introduce(args.files[0], settings=f"threads {args.threads}")
    parts: dict[str, PartResult] = {}
    for path in args.files:
        parts[path.name] = judge(path, ask(path, args.threads))
        parts[path.name].print()
        write_parts(args.json, facts, parts)
    sys.exit(count_claims(parts.values()))


if __name__ == "__main__":
    main()
