"""The interface in a browser: textual-serve runs one `localllm tui` for each page that is opened.

Whoever reaches its port can use the machine, and so could any page that a browser here has open: pages of other
origins and names that only pretend to be this machine are refused.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_ANY = ("0.0.0.0", "::", "")
_OWN_NAMES = ("localhost", "127.0.0.1", "::1")


class GuardedServer(Server):  # type: ignore[misc, unused-ignore]
    """Serves the interface to browsers.

    Args:
        command: what each page runs.
        host: the address to listen on.
        port: likewise.
    """

    def __init__(self, command: str, host: str, port: int) -> None:
        self._named = socket.gethostname() if host in _ANY else host
        shown = f"[{self._named}]" if ":" in self._named else self._named
        super().__init__(command, host, port, title="localllm", public_url=f"http://{shown}:{port}")

    def initialize_logging(self) -> None:
        """Leave logging as it is: that is the command line's."""

    async def on_startup(self, app: web.Application) -> None:
        """Say nothing: the command line has said it."""

    async def _make_app(self) -> web.Application:
        app: web.Application = await super()._make_app()
        app.middlewares.append(self._guard)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if not self.accepts(request.host) or (origin is not None and not self.accepts(urlsplit(origin).netloc)):
            raise web.HTTPForbidden(text="This page may not use localllm.")
        response = await handler(request)
        # The page of textual-serve asks another machine for a font; what is open here is nobody else's business.
        if not response.prepared:
            response.headers["Content-Security-Policy"] = self._content_policy
        return response

    @property
    def _content_policy(self) -> str:
        own = f"'self' {self.public_url} {self.public_url.replace('http', 'ws', 1)} data: blob:"
        return f"default-src {own} 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'"

    def accepts(self, netloc: str) -> bool:
        """Whether a name with a port means this server: an address, or a name that is surely ours."""
        parts = urlsplit(f"//{netloc}")
        try:
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        if name is None or (port or 80) != self.port:
            return False
        return name in _OWN_NAMES or name == self._named.lower() or (self.host in _ANY and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
