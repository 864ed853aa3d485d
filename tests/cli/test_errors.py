"""How a command fails: its exit code, and a line or two on stderr."""

from __future__ import annotations

import inspect
import subprocess
import sys

import click
import pytest

from localllm import errors
from localllm.cli.errors import exit_code, guarded
from tests.cli.conftest import Cli

ALL_ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.LocalLLMError)]
CODES = {
    "LocalLLMError": 1,
    "ModelError": 3,
    "ModelNotFound": 4,
    "ModelNotHere": 4,
    "InvalidModelFile": 3,
    "InvalidCheckpoint": 3,
    "ToolServerError": 1,
    "UnsupportedModel": 3,
    "ModelLoadFailed": 3,
    "NotEnoughMemory": 5,
    "AllocationFailed": 5,
    "NotEnoughDisk": 10,
    "RequestError": 6,
    "ContextLengthExceeded": 7,
    "InvalidGrammar": 6,
    "TemplateError": 6,
    "ServerError": 9,
    "ServerUnreachable": 9,
    "ServerBusy": 9,
    "ServerSilent": 9,
    "AnswerBroken": 9,
    "HubError": 11,
    "HubNotFound": 13,
    "HubAccessDenied": 12,
    "HubRateLimited": 11,
    "HubUnavailable": 11,
    "DamagedDownload": 11,
    "EngineError": 8,
    "EngineClosed": 8,
    "DecodeFailed": 8,
    "WorkerCrashed": 8,
}


def failing(error: BaseException) -> int:
    def fail() -> None:
        raise error

    return guarded(fail)


def test_every_class_has_its_exit_code() -> None:
    assert {kind.__name__: exit_code(kind("x")) for kind in ALL_ERRORS} == CODES


def test_error_is_one_line_and_its_hint_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(errors.NotEnoughMemory("Needs 21.4 GiB,\n16.0 GiB free.", hint="Try Q4_K_M.")) == 5
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: Needs 21.4 GiB, 16.0 GiB free.\nhint: Try Q4_K_M.\n")


def test_unexpected_exception_is_called_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(ZeroDivisionError("division by zero")) == 70
    err = capsys.readouterr().err
    assert "this is a bug" in err and "LOCALLLM_DEBUG=1" in err and "Traceback" not in err


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_DEBUG", "1")
    assert failing(errors.RequestError("No.")) == 6
    err = capsys.readouterr().err
    assert "Traceback" in err and err.endswith("error: No.\n")


def test_debug_variable_is_not_taken_for_a_setting(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALLLM_DEBUG", "1")
    assert cli("run", "Hi").code == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.exceptions.Abort()])
def test_interrupt_is_quiet_and_130(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    assert failing(error) == 130
    assert capsys.readouterr() == ("", "")


def test_exit_codes_of_actions_are_passed_on() -> None:
    assert guarded(lambda: None) == 0
    assert guarded(lambda: 3) == 3
    assert failing(SystemExit(4)) == 4


def test_broken_pipe_is_quiet() -> None:
    code = (
        "import sys\n"
        "from localllm.cli.errors import guarded\n"
        "def act():\n"
        "    while True: print('x' * 4096, flush=True)\n"
        "sys.exit(guarded(act))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    process.stderr.close()
