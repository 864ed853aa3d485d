"""Tool servers for tests: a real process each, of `tests.tools.server`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from localllm.tools import ServerConfig, ToolConfig, ToolServers

ROOT = Path(__file__).parents[2]
MakeServers = Callable[..., ToolServers]


def server_config(name: str = "tests", *args: str, call_limit_s: float = 20.0) -> ServerConfig:
    return ServerConfig(
        name,
        sys.executable,
        ("-m", "tests.tools.server", *args),
        {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        str(ROOT),
        call_limit_s=call_limit_s,
    )


@pytest.fixture
async def make_servers(tmp_path: Path) -> AsyncIterator[MakeServers]:
    made: list[ToolServers] = []

    def make(*configs: ServerConfig, start_limit_s: float = 30.0) -> ToolServers:
        config = ToolConfig(tmp_path / "mcp.json", configs or (server_config(),))
        made.append(ToolServers(config, start_limit_s=start_limit_s))
        return made[-1]

    yield make
    for servers in made:
        await servers.stop_all()
