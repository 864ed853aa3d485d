"""A/B with real engines: two small random models, each in a process of its own, and their divergence in a third."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.config import load_settings
from tests.tiny_model import write_tiny_model
from tui.compare.contest import Contest
from tui.compare.fitting import fit_together
from tui.compare.side import Side
from tui.engines import Engines

OPTIONS = {"max_tokens": 8, "temperature": 0.0, "ignore_eos": True}


async def test_two_files_answer_and_their_divergence_is_computed(tmp_path: Path) -> None:
    paths = [write_tiny_model(tmp_path / f"{name}.gguf", seed=seed) for seed, name in enumerate("ab")]
    engines = Engines(lambda ref: None)
    contest = Contest(engines, load_settings({"n_ctx": 256}), lambda: None)
    contest.ask("Hello", (Side(str(paths[0]), OPTIONS), Side(str(paths[1]), OPTIONS)))
    assert contest._task is not None
    await contest._task
    await engines.close_all()
    assert [state.phase for state in contest.states] == ["done", "done"]
    assert [state.n_tokens for state in contest.states] == [8, 8]
    found = contest.divergence.found
    assert found is not None, contest.divergence.reason
    assert b"".join(found.pieces).decode("utf-8", "replace") == contest.states[0].text
    assert min(found.kl) > 0 and all(0 < p <= 1 for p in (*found.reference_p, *found.other_p))


def test_what_fits_and_what_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(write_tiny_model(tmp_path / f"{name}.gguf", seed=seed)) for seed, name in enumerate("ab")]
    assert fit_together(paths, 256)
    from localllm.hardware.types import LoadOptions
    from localllm.runtime.loading import plan_model

    _, plan = plan_model(Path(paths[0]), LoadOptions(n_ctx=256, n_slots=2))
    free_bytes = int(plan.ram_bytes * 1.5)
    monkeypatch.setattr("localllm.hardware.available_ram_bytes", lambda: free_bytes)
    if plan.n_gpu_layers == 0:
        assert not fit_together(paths, 256)
        assert fit_together(paths[:1], 256)
