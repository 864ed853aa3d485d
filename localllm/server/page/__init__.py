"""The built-in pages: a conversation at /, the API's reference at /docs.

They are files that a browser gets as they are. They hold no data; their scripts ask the API, with a key if it has one.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

_HTML = "text/html; charset=utf-8"
_SCRIPT = "text/javascript; charset=utf-8"
_STYLE = "text/css; charset=utf-8"
_IMAGE = "image/svg+xml"


class PageFile(NamedTuple):
    """A file of the pages."""

    name: str
    media_type: str

    def read(self) -> bytes:
        return files(__name__).joinpath(self.name).read_bytes()


FILES = {
    "/": PageFile("index.html", _HTML),
    "/docs": PageFile("docs.html", _HTML),
    "/page.css": PageFile("page.css", _STYLE),
    "/docs.css": PageFile("docs.css", _STYLE),
    "/page.js": PageFile("page.js", _SCRIPT),
    "/docs.js": PageFile("docs.js", _SCRIPT),
    "/api.js": PageFile("api.js", _SCRIPT),
    "/figures.js": PageFile("figures.js", _SCRIPT),
    "/markdown.js": PageFile("markdown.js", _SCRIPT),
    "/messages.js": PageFile("messages.js", _SCRIPT),
    "/models.js": PageFile("models.js", _SCRIPT),
    "/icon.svg": PageFile("icon.svg", _IMAGE),
    "/favicon.ico": PageFile("icon.svg", _IMAGE),
}
"""Path to file."""

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}

HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Only our own files run, no text can become markup (trusted types), and no other page may frame or read these."""
