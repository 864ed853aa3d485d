"""The processes that look and measure: what they say, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from localllm.errors import EngineError
from tests.tiny_model import write_tiny_model
from tui.machine.children import TalkingChild
from tui.machine.history import SpeedRun


async def all_of(child: TalkingChild) -> list[dict[str, Any]]:
    return [said async for said in child.lines()]


async def test_a_tiny_model_is_measured(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.gguf", n_ctx=1024)
    said = await all_of(TalkingChild(["tui.machine.speed_child", str(path), "1", "auto"]))
    assert any("round" in one for one in said)
    result = said[-1]["result"]
    run = SpeedRun.of({**result, "time": "now"})
    assert 0 < run.low_tok_s <= run.generation_tok_s <= run.high_tok_s
    assert run.prompt_tok_s > 0
    assert (run.n_threads, run.n_gpu_layers) == (1, 0)
    assert run.machine and run.version and run.llama_cpp


async def test_a_model_that_is_not_there_is_an_error_with_a_hint() -> None:
    (said,) = await all_of(TalkingChild(["tui.machine.speed_child", "no-such-model-anywhere", "", "auto"]))
    assert "no-such-model-anywhere" in said["error"]["message"]
    assert said["error"]["hint"]


async def test_the_machine_is_looked_at_and_asked_again() -> None:
    child = TalkingChild(["tui.machine.check_child"])
    said: list[dict[str, Any]] = []
    async for one in child.lines():
        said.append(one)
        if "is_done" in one:
            child.ask()
        elif "devices" in one and "is_done" in said[-2:][0]:
            child.end()
    names = {one["finding"]["name"] for one in said if "finding" in one}
    assert {"versions", "cpu", "ram", "bandwidth", "disk"} <= names
    assert [list(one) for one in (said[0], said[-1])] == [["devices"], ["devices"]]


async def test_rpc_servers_that_are_not_there_are_a_finding() -> None:
    child = TalkingChild(["tui.machine.check_child", "127.0.0.1:1"])
    # What was written before the child ended still comes.
    found = None
    async for said in child.lines():
        if found is None and "finding" in said:
            found = said["finding"]
            child.end()
    assert found is not None
    assert found["name"] == "rpc"
    assert not found["is_ok"]
    assert found["advice"]


async def test_a_process_that_fails_is_an_error() -> None:
    with pytest.raises(EngineError, match="exit code"):
        await all_of(TalkingChild(["no_such_module_at_all"]))
