"""The process that compares two files on one answer: what it finds, what it refuses, and how."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from localllm.errors import NotEnoughMemory, RequestError
from localllm.workshop.answer_divergence import AnswerJob, AnswerOutcome, measure_answer
from tests.tiny_model import write_tiny_model


@pytest.fixture
def job(tmp_path: Path) -> AnswerJob:
    reference = write_tiny_model(tmp_path / "a.gguf", n_ctx=1024)
    other = write_tiny_model(tmp_path / "b.gguf", n_ctx=1024, seed=1)
    return AnswerJob(reference=str(reference), other=str(other), tokens=(51, 257, 266, 268, 220, 259), n_head=4)


def test_the_process_finds_what_the_function_finds(job: AnswerJob) -> None:
    command = [sys.executable, "-P", "-m", "localllm.workshop.answer_divergence"]
    done = subprocess.run(command, input=msgspec.json.encode(job), capture_output=True, timeout=60, check=True)
    outcome = msgspec.json.decode(done.stdout, type=AnswerOutcome)
    assert outcome.found == measure_answer(job)
    assert len(outcome.found.kl) == len(outcome.found.pieces) == 2 and min(outcome.found.kl) > 0


def test_an_error_is_an_outcome(job: AnswerJob) -> None:
    bad = msgspec.structs.replace(job, other="/no/such/file.gguf")
    command = [sys.executable, "-P", "-m", "localllm.workshop.answer_divergence"]
    done = subprocess.run(command, input=msgspec.json.encode(bad), capture_output=True, timeout=60, check=True)
    outcome = msgspec.json.decode(done.stdout, type=AnswerOutcome)
    assert outcome.found is None and outcome.error is not None


def test_other_vocabularies_are_refused_before_anything_is_loaded(job: AnswerJob, tmp_path: Path) -> None:
    other = write_tiny_model(tmp_path / "c.gguf", n_ctx=1024, n_more_tokens=3)
    with pytest.raises(RequestError, match="different vocabularies"):
        measure_answer(msgspec.structs.replace(job, other=str(other)))


def test_what_does_not_fit_is_refused_in_numbers(job: AnswerJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localllm.workshop.answer_divergence.available_ram_bytes", lambda: 1000)
    with pytest.raises(NotEnoughMemory, match="for 2 contexts at once"):
        measure_answer(job)
