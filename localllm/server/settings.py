"""What the server is told at its start, checked once."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path

from localllm.errors import RequestError

MIB = 1 << 20


def key_digest(key: str) -> bytes:
    """Return what is kept of an API key: its SHA-256."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Everything about the server but its models.

    Raises:
        RequestError: the settings would be unsafe, or contradict each other.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    key_digests: tuple[bytes, ...] = ()
    """SHA-256 of each key that is accepted; none: no key is needed."""
    allow_open: bool = False
    """Serve a public address without a key."""
    allowed_hosts: tuple[str, ...] = ()
    """Names in a Host header, beside localhost, this machine's name and IP addresses."""
    cors_origins: tuple[str, ...] = ()
    """Web pages that may use the API from a browser; "*" is all."""
    max_body_bytes: int = 32 * MIB
    max_requests: int = 256
    """Requests that run or wait; those beyond get 503."""
    body_timeout_s: float = 30.0
    """A client has this long to send its body ..."""
    header_timeout_s: float = 15.0
    """... and this long for its headers ..."""
    max_header_bytes: int = 64 << 10
    """... which may be this long."""
    max_bodies_bytes: int = 256 * MIB
    """Bytes of the bodies of all running requests together; beyond: 503."""
    max_body_values: int = 2_000_000
    """Commas and opening brackets in a body, an upper bound on the values that it makes Python allocate."""
    write_timeout_s: float = 60.0
    """A client that does not read what it is sent is hung up on after this long."""
    keep_alive_s: float = 10.0
    """A stream that has nothing to say for this long sends a comment, so that nobody takes it for dead."""
    shutdown_s: float = 30.0
    """Running answers may take this long to end when the server is stopped."""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    admin: bool = True
    """Whether models may be loaded, unloaded and pinned over HTTP."""

    def __post_init__(self) -> None:
        if not self.is_local and not self.key_digests and not self.allow_open:
            raise RequestError(
                f"{self.host} can be reached from other machines, and no API key is set.",
                hint="Set one with --api-key-file or LOCALLLM_API_KEY, or add --allow-open to let everybody in.",
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise RequestError("TLS needs both a certificate and its key.", hint="Give --tls-cert and --tls-key.")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def base_url(self) -> str:
        scheme = "https" if self.tls_cert else "http"
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(
            self.host, f"[{self.host}]" if ":" in self.host else self.host
        )
        return f"{scheme}://{host}:{self.port}"

    def accepts_key(self, key: str | None) -> bool:
        """Whether a request with this key may pass; every key is compared, in constant time."""
        if not self.key_digests:
            return True
        digest = key_digest(key or "")
        return sum(hmac.compare_digest(digest, known) for known in self.key_digests) > 0

    def accepts_host(self, host: str) -> bool:
        """Whether a Host header names this server.

        A web page that rebinds its own name to this machine's address (DNS rebinding) sends its own name here, so only
        names that cannot be somebody else's pass: addresses, localhost, this machine's name, and those allowed.
        """
        name = _without_port(host).lower().rstrip(".")
        if name in ("localhost", self.host.lower()) or name in (known.lower() for known in self.allowed_hosts):
            return True
        if name == socket.gethostname().lower():
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or not self.is_local


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.rpartition(":")[0] if host.count(":") == 1 else host
