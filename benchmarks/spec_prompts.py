"""A hundred different prompts of work that repeats itself and of work that does not, drawn from a seed."""

from __future__ import annotations

import numpy as np
from prompts import sentence
from spec_tasks import chat_prompt

from localllm.evaluate import default_text
from localllm.llama import Vocab

_NAMES = ("Anna Keller", "Jon Aldous", "Marie Petit", "Pedro Alves", "Ines Holm", "Tomas Vrba", "Aiko Mori")
_GOODS = ("lamps", "chairs", "tables", "shelves", "carpets", "mirrors", "vases")
_OLD = ("width", "name", "count", "price", "start", "colour")
_NEW = ("breadth", "label", "total", "cost", "begin", "shade")


def mixed_prompts(vocab: Vocab, n: int) -> list[list[int]]:
    """Return `n` prompts, in turns: copy a passage, edit code, extract a table to JSON, go on with a story."""
    rng = np.random.default_rng(0)
    paragraphs = [text for text in default_text().split("\n\n") if 200 < len(text) < 700]
    kinds = (
        lambda: f"Quote this passage word by word.\n\n{paragraphs[rng.integers(len(paragraphs))]}",
        lambda: _edit(rng),
        lambda: _orders(rng),
        lambda: f"Go on with this story, in many words. {sentence(rng)}",
    )
    return [chat_prompt(vocab, kinds[i % len(kinds)]()) for i in range(n)]


def _edit(rng: np.random.Generator) -> str:
    which = rng.permutation(len(_OLD))[:3]
    lines = [
        f"    def get_{_OLD[i]}(self) -> int:\n        return self.{_OLD[i]} * {rng.integers(2, 99)}\n" for i in which
    ]
    old, new = _OLD[which[0]], _NEW[which[0]]
    return f"Rename {old} to {new} everywhere, and change nothing else.\n\nclass Thing:\n" + "\n".join(lines)


def _orders(rng: np.random.Generator) -> str:
    lines = [
        f"Order {rng.integers(1000, 9999)}, {rng.choice(_NAMES)}: {rng.integers(2, 9)} {rng.choice(_GOODS)}, paid."
        for _ in range(5)
    ]
    return "Turn these orders into a JSON list with the keys order, name, count, goods and paid.\n\n" + "\n".join(lines)
