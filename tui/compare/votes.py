"""Which answer was better, kept with both texts in a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from localllm import paths
from localllm.errors import RequestError
from tui.compare.divergence import DivergenceState
from tui.compare.side import Side, SideState

Vote = Literal["a", "b", "tie"]


def votes_file() -> Path:
    """Return where votes are kept."""
    return paths.data_dir() / "comparisons.jsonl"


def keep_vote(
    vote: Vote, question: str, sides: Sequence[Side], states: Sequence[SideState], divergence: DivergenceState
) -> Path:
    """Add a line to the file; for other threads than the interface's.

    Raises:
        RequestError: it cannot be written.
    """
    file = votes_file()
    paths.ensure(file.parent)
    record = {
        "when": datetime.now().astimezone().isoformat(timespec="seconds"),
        "vote": vote,
        "question": question,
        **{name: _facts(*pair) for name, pair in zip("ab", zip(sides, states, strict=True), strict=True)},
        "kl": divergence.facts,
    }
    try:
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(record, ensure_ascii=False) + "\n")
    except OSError as error:
        raise RequestError(f"Cannot write {file}: {error.strerror}.", hint="Check the disk.") from error
    return file


def _facts(side: Side, state: SideState) -> dict[str, Any]:
    return {
        "model": side.ref,
        "options": dict(side.options),
        "text": state.text,
        "n_tokens": state.n_tokens,
        "tok_s": round(state.tok_s, 2),
    }
