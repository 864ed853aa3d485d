"""The file of tool servers: what is read of it, and what is said where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localllm.errors import RequestError
from localllm.tools import ServerConfig, ToolConfig, config_file, load_tool_config


def load(tmp_path: Path, entries: dict[str, Any], section: str = "mcpServers", **environ: str) -> ToolConfig:
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({section: entries}))
    return load_tool_config(file, environ)


def test_no_file_is_no_servers(home: Path) -> None:
    config = load_tool_config()
    assert (config.file, config.servers) == (home / "config" / "mcp.json", ())
    assert config.file == config_file()


def test_a_command_and_an_address(tmp_path: Path) -> None:
    command = {"command": "npx", "args": ["-y", "it"], "env": {"A": "b"}, "cwd": "/x", "timeout": 5, "icon": 1}
    config = load(tmp_path, {"files": command, "web": {"type": "http", "url": "https://x/mcp", "headers": {"K": "v"}}})
    assert config.servers == (
        ServerConfig("files", "npx", ("-y", "it"), {"A": "b"}, "/x", call_limit_s=5),
        ServerConfig("web", url="https://x/mcp", headers={"K": "v"}),
    )
    assert config.problems == {}


def test_the_section_of_vs_code(tmp_path: Path) -> None:
    assert load(tmp_path, {"a": {"type": "stdio", "command": "b"}}, "servers").servers == (ServerConfig("a", "b"),)


def test_variables_are_filled_in(tmp_path: Path) -> None:
    entry = {"command": "${BIN:-fallback}", "args": ["${env:DIR}/x"], "env": {"KEY": "<${KEY}>"}}
    (server,) = load(tmp_path, {"a": entry}, DIR="/d", KEY="s3cret").servers
    assert (server.command, server.args, server.env) == ("fallback", ("/d/x",), {"KEY": "<s3cret>"})
    assert "s3cret" not in repr(server) + server.summary


def test_what_is_switched_off_is_not_there(tmp_path: Path) -> None:
    config = load(tmp_path, {"a": {"command": "x", "disabled": True}, "b": {"command": "x", "enabled": False}})
    assert config == ToolConfig(tmp_path / "mcp.json")


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("text", "must be an object"),
        ({}, 'needs either "command" or "url"'),
        ({"command": "a", "url": "http://b"}, 'needs either "command" or "url"'),
        ({"url": "ftp://b"}, "must begin with http"),
        ({"url": "http://b", "type": "sse"}, "type is 'sse'"),
        ({"command": "a", "args": "b"}, '"args" must be a list'),
        ({"command": "a", "args": ["\0"]}, '"args" must be a list'),
        ({"command": "a", "env": {"b": 1}}, '"env" must be an object of texts'),
        ({"command": 1}, '"command" must be a text'),
        ({"command": "a", "timeout": True}, '"timeout" must be seconds'),
        ({"command": "${GONE}"}, "variable GONE is not set"),
        ({"command": "${input:key}"}, "no environment variable"),
    ],
)
def test_one_wrong_entry_leaves_the_others(tmp_path: Path, entry: Any, problem: str) -> None:
    config = load(tmp_path, {"bad": entry, "good": {"command": "x"}})
    assert [server.name for server in config.servers] == ["good"]
    assert problem in config.problems["bad"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"mcpServers": 1}', "\xff"])
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mcp.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestError, match="mcp"):
        load_tool_config(file)
