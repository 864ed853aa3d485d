"""A model that is elsewhere, and somebody at the terminal who is asked whether it shall be fetched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from localllm.errors import ModelNotHere
from tests.cli.conftest import Cli

NAME = "org/tiny-GGUF"


@pytest.fixture
def asked(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Questions that were asked; the answer is yes. The model is there from the second time on that it is loaded."""
    questions: list[str] = []

    def confirm(question: str, **_: object) -> bool:
        questions.append(question)
        cli.load_error = None
        return True

    cli.load_error = ModelNotHere(f"{NAME} is not on this disk.", hint=f"Fetch it: localllm pull {NAME}")
    monkeypatch.setattr("click.confirm", confirm)
    return questions


def test_a_model_that_is_wanted_is_fetched_and_answers(
    cli: Cli, asked: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    monkeypatch.setattr("localllm.cli.model.fetch", fetched.append)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    cli.says("Hello.")
    result = cli("run", NAME, "Hi")
    assert (result.code, result.out) == (0, "Hello.\n")
    assert asked == [f"{NAME} is not on this disk. Fetch it now?"]
    assert fetched == [NAME]


def test_nobody_is_asked_where_nobody_sits(cli: Cli, asked: list[str]) -> None:
    result = cli("run", NAME, stdin="Hi")
    assert result.code == 4
    assert "Fetch it: localllm pull org/tiny-GGUF" in result.err
    assert not asked


def test_what_is_not_wanted_stays_away(cli: Cli, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert cli("run", NAME, "Hi").code == 4
