"""Addresses of servers, as people write them."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from localllm.errors import RequestError

_EXAMPLE = "http://192.168.1.5:8000"


def root_of(url: str) -> str:
    """Return the address of an API without /v1 at its end; http:// is added where nothing is.

    Raises:
        RequestError: it is no address, or holds what does not belong there, such as a password.
    """
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        is_address = False
    if not is_address or not text.isascii() or not text.isprintable() or " " in text:
        raise RequestError(f"{url!r} is not a server's address.", hint=f"Write it like {_EXAMPLE}.")
    if parts.username is not None or parts.query or parts.fragment:
        raise RequestError(
            "The address holds a name, a password, or a query.", hint=f"Write it like {_EXAMPLE}; a key goes to --key."
        )
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def is_private(root_url: str) -> bool:
    """Return whether nobody on the way can read what is sent: it is encrypted, or does not leave this machine."""
    parts = urlsplit(root_url)
    host = parts.hostname or ""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    return parts.scheme == "https" or is_here
