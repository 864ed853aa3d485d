"""`localllm tools`: what the servers of mcp.json offer, and which of them fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from localllm.cli.app import app
from localllm.errors import ToolServerError
from tests.tools.conftest import server_config


def write(home: Path, **servers: object) -> None:
    (home / "config").mkdir(parents=True, exist_ok=True)
    (home / "config" / "mcp.json").write_text(json.dumps({"mcpServers": servers}))


def entry() -> dict[str, object]:
    config = server_config()
    return {"command": config.command, "args": config.args, "env": config.env, "cwd": config.cwd}


def test_servers_and_tools_are_listed_and_ended(home: Path) -> None:
    write(home, tests=entry(), gone={"command": "no-such-program-here"}, bad={})
    result = CliRunner().invoke(app, ["tools"])
    assert result.exit_code == 0
    assert f"tests: {sys.executable} -m tests.tools.server" in result.stdout
    assert "  tests__add  Add two numbers.\n" in result.stdout
    assert "\x1b" not in result.stdout
    assert "gone cannot be started" in result.stdout
    assert 'bad: It needs either "command" or "url".' in result.stderr
    assert not psutil.Process().children()


def test_json_is_one_list(home: Path) -> None:
    write(home, tests=entry())
    result = CliRunner().invoke(app, ["tools", "list", "--json"])
    (server,) = json.loads(result.stdout)
    assert server["name"] == "tests" and server["error"] is None
    (add,) = [tool for tool in server["tools"] if tool["name"] == "tests__add"]
    assert add["is_read_only"] is True and add["parameters"]["required"] == ["a", "b"]


def test_no_servers_is_said(home: Path) -> None:
    result = CliRunner().invoke(app, ["tools", "list"])
    assert result.exit_code == 0 and "There are no tool servers" in result.stderr


def test_without_the_library_the_way_to_it_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("localllm.tools.servers.find_spec", lambda name: None)
    write(home, tests=entry())
    result = CliRunner().invoke(app, ["tools", "list"])
    assert isinstance(result.exception, ToolServerError)
    assert result.exception.hint == "pip install 'localllm[tools]'"
