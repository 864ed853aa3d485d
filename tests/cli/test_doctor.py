"""`localllm doctor --api`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.conformance.fake.server import KEY, Fake, Running
from tests.conformance.faults import CASES


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def url(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("FAKE_KEY", KEY)
    with Running(fake.app) as address:
        yield address


def test_a_good_server_is_exit_code_0(cli: Cli, url: str) -> None:
    result = cli("doctor", "--api", url, "--key-env", "FAKE_KEY", "--only", "4")
    assert (result.code, result.err) == (0, "")
    assert "7 passed" in result.out and "Shape of streams" not in result.out


def test_a_failure_is_exit_code_1_and_says_what_was_seen(cli: Cli, url: str, fake: Fake) -> None:
    fake.reset(next(case.fault for case in CASES if case.name == "max_completion_tokens is ignored"))
    result = cli("doctor", "--api", f"{url}/v1/", "--key-env", "FAKE_KEY", "--only", "4")
    assert result.code == 1
    assert "expected completion_tokens 5" in result.out
    assert "Points that clients cannot rely on here: 4" in result.out


def test_the_report_is_written_as_json(cli: Cli, url: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    cli("doctor", "--api", url, "--key-env", "FAKE_KEY", "--only", "4,18", "--json", str(file))
    report = json.loads(file.read_text(encoding="utf-8"))
    assert {check["point"] for check in report["checks"]} == {4, 18}
    assert (report["url"], report["model"], report["summary"]["failed"]) == (url, "scripted", 0)


def test_verbose_shows_what_passed(cli: Cli, url: str) -> None:
    result = cli("doctor", "--api", url, "--key-env", "FAKE_KEY", "--only", "4", "--verbose")
    assert result.out.count("✓") == 7


def test_without_a_server_this_machine_is_checked(cli: Cli) -> None:
    result = cli("doctor")
    assert (result.code, result.err) == (0, "")
    assert all(f"  {name} " in result.out for name in ("versions", "cpu", "threads", "ram", "bandwidth", "gpu", "disk"))
    assert "GB/s" in result.out


def test_the_machines_report_is_data_on_stdout(cli: Cli) -> None:
    result = cli("doctor", "--json", "-")
    findings = {finding["name"]: finding for finding in json.loads(result.out)}
    assert findings["disk"]["is_ok"] in (True, False) and "llama.cpp" in findings["versions"]["text"]


def test_a_server_that_does_not_answer_is_an_error(cli: Cli) -> None:
    result = cli("doctor", "--api", "http://127.0.0.1:9")
    assert result.code == 6 and "No server answers" in result.err


@pytest.mark.parametrize("points", ["0", "1,x", "99", ""])
def test_unknown_points_are_an_error(cli: Cli, points: str) -> None:
    result = cli("doctor", "--api", "http://127.0.0.1:9", "--only", points)
    assert result.code == 6 and "--only" in result.err


def test_a_key_variable_that_is_not_set_is_an_error(cli: Cli) -> None:
    result = cli("doctor", "--api", "http://127.0.0.1:9", "--key-env", "NOT_SET_ANYWHERE")
    assert result.code == 6 and "NOT_SET_ANYWHERE" in result.err


@pytest.mark.parametrize("package", ["openai", "anthropic", "httpx"])
def test_a_missing_client_is_an_error_that_says_what_to_install(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    result = cli("doctor", "--api", "http://127.0.0.1:9")
    assert result.code == 6
    assert f"{package} is missing" in result.err and "localllm[doctor]" in result.err
