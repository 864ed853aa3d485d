"""Logs, counters, snippets and the record: what is read and written beside the server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tui.serving import record
from tui.serving.logs import LogTail, parse_line
from tui.serving.metrics import WINDOW_S, Counters, History, parse_counters
from tui.serving.snippets import snippets


def test_lines_of_the_log_are_read_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    tail = LogTail(path)
    assert not tail.read()
    first = json.dumps({"time": "2026-01-02T03:04:05.678Z", "level": "warning", "logger": "x", "message": "m", "n": 3})
    path.write_text(first + "\nhalf", encoding="utf-8")
    assert tail.read()
    path.open("a").write(" a line\n")
    assert tail.read()
    assert [(line.time, line.level, line.text) for line in tail.lines] == [
        ("03:04:05", "warning", "m n=3"),
        ("", "info", "half a line"),
    ]
    assert tail.last_words(1) == ["half a line"]
    path.write_text("new\n", encoding="utf-8")
    assert tail.read()
    assert tail.last_words(1) == ["new"]


def test_a_line_of_the_log_commands_no_terminal() -> None:
    (line,) = parse_line(b"\x1b]0;title\x07 \xff" + b"x" * 9999)
    assert "\x1b" not in line.text
    assert "\x07" not in line.text
    assert len(line.text) < 1000


def test_where_an_error_was_raised_follows_it() -> None:
    raw = json.dumps({"level": "critical", "message": "failed", "exception": "KeyError:\n  there"}).encode()
    assert [(line.level, line.text) for line in parse_line(raw)] == [
        ("error", "failed"),
        ("error", "  KeyError:"),
        ("error", "    there"),
    ]
    assert [line.level for line in parse_line(b"Error: Cannot listen")] == ["error"]
    assert list(parse_line(b"  ")) == []


def test_counters_of_all_models_are_added() -> None:
    text = (
        "# HELP x y\n"
        'localllm_engine_tokens_decoded_total{model="a"} 10\n'
        'localllm_engine_tokens_decoded_total{model="b"} 5\n'
        'localllm_time_to_first_token_seconds_sum{model="a"} 0.5\n'
        'localllm_time_to_first_token_seconds_count{model="a"} 2\n'
        "localllm_something_else oops\n"
    )
    assert parse_counters(text, 1.0) == Counters(1.0, n_decoded=15, ttft_s=0.5, n_ttft=2)


def test_moments_are_differences_and_old_ones_go() -> None:
    history = History()
    history.add(Counters(0.0))
    history.add(Counters(2.0, n_decoded=30, n_prefilled=100, ttft_s=0.4, n_ttft=2))
    (moment,) = history.moments
    assert (moment.decode_tok_s, moment.prefill_tok_s, moment.ttft_s) == (15.0, 50.0, 0.2)
    assert moment.between_s is None
    history.add(Counters(3.0, n_decoded=1))
    assert len(history.moments) == 1, "a model that was unloaded took its count along"
    history.add(Counters(3.0 + WINDOW_S, n_decoded=2))
    assert [one.time_s for one in history.moments] == [3.0 + WINDOW_S]


@pytest.mark.parametrize("has_key", [False, True])
def test_snippets_name_the_server_and_never_a_key(has_key: bool) -> None:
    found = snippets("http://127.0.0.1:8080", 'it\'s "m"', has_key=has_key)
    assert [one.title for one in found] == ["environment", "curl", "Python", "JavaScript"]
    assert all("http://127.0.0.1:8080/v1" in one.text for one in found)
    compile(found[2].text, "snippet", "exec")
    assert subprocess.run(["bash", "-n", "-c", found[1].text], check=False).returncode == 0
    assert ("OPENAI_API_KEY" in found[1].text) is has_key
    body = subprocess.run(
        ["bash", "-c", found[1].text.replace("curl", "printf '%s\\n'", 1)], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    assert json.loads(body)["model"] == 'it\'s "m"'


def test_a_server_that_was_left_is_found_as_long_as_it_runs() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    kept = record.record_of(child.pid, "http://127.0.0.1:1", Path("x.log"))
    assert kept is not None
    record.keep(kept)
    assert record.find() == kept
    kept.stop()
    child.communicate()
    assert record.find() is None
    assert record.find() is None


def test_another_process_with_the_same_id_is_not_the_server() -> None:
    created_s = psutil.Process(os.getpid()).create_time() - 100
    impostor = record.ServerRecord(os.getpid(), created_s, "http://127.0.0.1:1", "x.log")
    assert not impostor.is_running()
    impostor.stop()
    record.keep(impostor)
    assert record.find() is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x"}'])
def test_a_damaged_record_is_none(home: Path, text: str) -> None:
    (home / "data").mkdir()
    (home / "data" / "server.json").write_text(text)
    assert record.find() is None
