"""What a server is asked to be, and the command line that makes it so."""

from __future__ import annotations

import errno
import os
import secrets
import socket
import sys
from dataclasses import dataclass

from localllm.config import API_KEY_VARIABLE
from localllm.errors import RequestError

EXTRA_LINE = 'pip install "localllm[server]"'
_PACKAGES = ("fastapi", "uvicorn")
_MAX_PORT = 65535
_MAX_SLOTS = 240


@dataclass(frozen=True)
class ServeRequest:
    """One server to start."""

    models: tuple[str, ...] = ()
    """Names or paths; none: all that are on this computer."""
    host: str = "127.0.0.1"
    port: int = 8080
    key: str = ""
    """What clients must send; "": no key is needed."""
    origins: tuple[str, ...] = ()
    """Web pages that may use the API."""
    n_ctx: int | None = None
    n_slots: int = 4
    preload: bool = False

    @property
    def command(self) -> list[str]:
        """The command line. The key is not on it, where every user of the machine could read it."""
        line = [sys.executable, "-m", "localllm", "serve", *self.models, "--lifeline", "--log-format", "json"]
        line += ["--host", self.host, "--port", str(self.port), "--slots", str(self.n_slots)]
        line += [word for origin in self.origins for word in ("--cors-origin", origin)]
        line += [] if self.n_ctx is None else ["--n-ctx", str(self.n_ctx)]
        return [*line, "--preload"] if self.preload else line

    @property
    def environment(self) -> dict[str, str]:
        """The environment to start it in: ours, with the key of this server and no other."""
        kept = {name: value for name, value in os.environ.items() if name != API_KEY_VARIABLE}
        return {**kept, API_KEY_VARIABLE: self.key} if self.key else kept

    @property
    def base_url(self) -> str:
        """Where it answers, without /v1."""
        from localllm.server.settings import ServerSettings

        return ServerSettings(host=self.host, port=self.port, allow_open=True).base_url

    def check(self) -> None:
        """Find out now what would make the start fail.

        Raises:
            RequestError: a value is not allowed, other machines could use it without a key, the port is taken, or the
                server's packages are missing.
        """
        from localllm.server.settings import ServerSettings

        if not has_server_packages():
            raise RequestError("The server's packages are not installed.", hint=f"Install them: {EXTRA_LINE}")
        if not 0 < self.port <= _MAX_PORT:
            raise RequestError(f"The port is {self.port}; it must be 1 to {_MAX_PORT}.")
        if not 0 < self.n_slots <= _MAX_SLOTS:
            raise RequestError(f"{self.n_slots} answers at once; it must be 1 to {_MAX_SLOTS}.")
        if self.key and not self.key.isprintable():
            raise RequestError("The key has characters that cannot be sent.", hint="Use letters and digits.")
        if self.n_ctx is not None and self.n_ctx < 1:
            raise RequestError(f"The context is {self.n_ctx} tokens; it must be 1 and more.", hint="Or leave it empty.")
        settings = ServerSettings(host=self.host, port=self.port, allow_open=True)
        if not settings.is_local and not self.key:
            raise RequestError(
                f"{self.host} can be reached from other machines, and there is no key.",
                hint="Generate one with Ctrl+G, or listen on 127.0.0.1.",
            )
        check_port(self.host, self.port)


def has_server_packages() -> bool:
    """Whether what `localllm serve` needs is installed."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in _PACKAGES)


def new_key() -> str:
    """Return a key that nobody can guess."""
    return f"sk-{secrets.token_urlsafe(24)}"


def check_port(host: str, port: int) -> None:
    """Raise RequestError where nobody can listen on this port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            if os.name == "posix":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise RequestError(
                f"Port {port} is busy: another program listens there.",
                hint="Choose another port; if it is a localllm server, attach to it with Ctrl+T.",
            ) from error
        reason = getattr(error, "strerror", None) or str(error)
        raise RequestError(f"Cannot listen on {host}:{port}: {reason}.", hint="Choose another address.") from error
