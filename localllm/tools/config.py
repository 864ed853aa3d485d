"""The file in which people name their tool servers: the shape that most programs with MCP read.

    {"mcpServers": {
        "files": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-filesystem", "${HOME}/notes"]},
        "search": {"url": "https://tools.example/mcp", "headers": {"Authorization": "Bearer ${SEARCH_KEY}"}}
    }}

A server that is described wrongly is a problem of its own and leaves the others alone. What is said beyond what is
read here, such as icons, is passed over: other programs keep theirs in the same file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from localllm import paths
from localllm.errors import RequestError

FILE_NAME = "mcp.json"
CALL_LIMIT_S = 120.0
"""How long a call may take, unless a server has its own limit."""
MAX_CALL_LIMIT_S = 3600.0

EXAMPLE = '{"mcpServers": {"NAME": {"command": "...", "args": ["..."]}}}'
_SECTIONS = ("mcpServers", "servers")
_VARIABLE = re.compile(r"\$\{(?:env:)?(?P<name>\w+)(?::-(?P<default>[^}]*))?\}|\$\{(?P<other>[^}]*)\}")
_HTTP = frozenset({"http", "streamable-http", "streamable_http", "streamableHttp"})


@dataclass(frozen=True)
class ServerConfig:
    """One server: how it is started, or where it is."""

    name: str
    command: str = ""
    """The program; "" where there is an address."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str = ""
    """Its address, for servers that others run."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    call_limit_s: float = CALL_LIMIT_S

    @property
    def summary(self) -> str:
        """What it is, on one line, without values that may be secret."""
        return self.url or " ".join((self.command, *self.args))


@dataclass(frozen=True)
class ToolConfig:
    """What the file says."""

    file: Path
    servers: tuple[ServerConfig, ...] = ()
    problems: Mapping[str, str] = field(default_factory=dict)
    """Server to what is wrong with its description."""


def config_file() -> Path:
    """Return the file of tool servers; it need not exist."""
    return paths.config_dir() / FILE_NAME


def load_tool_config(file: Path | None = None, environ: Mapping[str, str] | None = None) -> ToolConfig:
    """Read the file; one that is not there names no servers.

    Args:
        file: None is `config_file()`.
        environ: what variables mean; None is this process's environment.

    Raises:
        RequestError: it cannot be read, or is not of this shape.
    """
    file = config_file() if file is None else file
    servers: list[ServerConfig] = []
    problems: dict[str, str] = {}
    for name, entry in _entries(file).items():
        try:
            config = _server(name, entry, os.environ if environ is None else environ)
        except ValueError as error:
            problems[name] = str(error)
        else:
            servers.extend([] if config is None else [config])
    return ToolConfig(file, tuple(servers), problems)


def _entries(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RequestError(f"Cannot read {file}: {error.strerror}.", hint="Mend or remove the file.") from error
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{file} is not JSON: {error}.", hint=f"Write {EXAMPLE}") from error
    section = next((found[key] for key in _SECTIONS if key in found), None) if isinstance(found, dict) else None
    if not isinstance(section, dict):
        raise RequestError(f'{file} has no object "mcpServers".', hint=f"Write {EXAMPLE}")
    return section


def _server(name: str, entry: Any, environ: Mapping[str, str]) -> ServerConfig | None:
    """Return what an entry says; None for one that is switched off.

    Raises:
        ValueError: it says nothing that can be used; the message says why.
    """
    if not isinstance(entry, dict):
        raise ValueError("It must be an object.")
    if entry.get("disabled") is True or entry.get("enabled") is False:
        return None
    entry = _filled_in(entry, environ)
    command, url = _text(entry, "command"), _text(entry, "url") or _text(entry, "serverUrl")
    kind = _text(entry, "type") or _text(entry, "transport")
    if bool(command) == bool(url):
        raise ValueError('It needs either "command" or "url".')
    if kind and kind not in ({"stdio"} if command else _HTTP):
        raise ValueError(f'Its type is {kind!r}; a command is "stdio", an address "http".')
    if url and not url.startswith(("http://", "https://")):
        raise ValueError('Its "url" must begin with http:// or https://.')
    return ServerConfig(
        name,
        command,
        _texts(entry, "args"),
        _named_texts(entry, "env"),
        _text(entry, "cwd") or None,
        url,
        _named_texts(entry, "headers"),
        _limit_s(entry),
    )


def _filled_in(value: Any, environ: Mapping[str, str]) -> Any:
    """Return a value with its variables replaced, wherever they are in it."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: _variable(found, environ), value)
    if isinstance(value, list):
        return [_filled_in(item, environ) for item in value]
    if isinstance(value, dict):
        return {key: _filled_in(item, environ) for key, item in value.items()}
    return value


def _variable(found: re.Match[str], environ: Mapping[str, str]) -> str:
    if found["other"] is not None:
        raise ValueError(f"{found.group()} is no environment variable; use ${{NAME}}.")
    value = environ.get(found["name"]) or found["default"]
    if value is None:
        raise ValueError(f"The environment variable {found['name']} is not set.")
    return value


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key) or ""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f'Its "{key}" must be a text.')
    return value


def _texts(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = entry.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise ValueError(f'Its "{key}" must be a list of texts.')
    return tuple(value)


def _named_texts(entry: Mapping[str, Any], key: str) -> dict[str, str]:
    value = entry.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(item, str) and "\0" not in item for item in value.values()):
        raise ValueError(f'Its "{key}" must be an object of texts.')
    return value


def _limit_s(entry: Mapping[str, Any]) -> float:
    value = entry.get("timeout", CALL_LIMIT_S)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_CALL_LIMIT_S:
        raise ValueError(f'Its "timeout" must be seconds, above 0, at most {MAX_CALL_LIMIT_S:g}.')
    return float(value)
