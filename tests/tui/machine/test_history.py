"""Speeds that were measured, kept in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from localllm.errors import RequestError
from tui.machine.history import MAX_RUNS, SpeedHistory, SpeedRun

RUN = SpeedRun(
    time="2026-01-02T03:04:05+00:00",
    model="smollm2",
    file_type="Q4_1",
    prompt_tok_s=400.0,
    generation_tok_s=40.0,
    low_tok_s=39.0,
    high_tok_s=41.0,
    n_prompt=256,
    n_generated=32,
    n_threads=2,
    n_gpu_layers=0,
    machine="A CPU",
    version="0.1.0",
    llama_cpp="b1",
)


def test_runs_are_kept_in_their_order(home: Path) -> None:
    other = replace(RUN, model="other")
    assert SpeedHistory().add(RUN) == [RUN]
    assert SpeedHistory().add(other) == [RUN, other]
    assert SpeedHistory().read() == [RUN, other]
    assert (home / "data" / "speeds.json").exists()


def test_damaged_runs_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "speeds.json"
    history = SpeedHistory(file)
    assert history.read() == []
    history.add(RUN)
    good = json.loads(file.read_text())
    file.write_text(json.dumps([{}, 3, *good, {**good[0], "n_prompt": "x"}]))
    assert history.read() == [RUN]
    file.write_text("{")
    assert history.read() == []


def test_the_oldest_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "speeds.json"
    SpeedHistory(file).add(RUN)
    (one,) = json.loads(file.read_text())
    file.write_text(json.dumps([one] * MAX_RUNS))
    runs = SpeedHistory(file).add(replace(RUN, model="new"))
    assert len(runs) == MAX_RUNS
    assert runs[-1].model == "new"


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "speeds.json").mkdir()
    with pytest.raises(RequestError, match="cannot be kept"):
        SpeedHistory(tmp_path / "speeds.json").add(RUN)
