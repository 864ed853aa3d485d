"""What a web page in the user's browser, or a guest on the network, may not do."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from localllm.conformance.check import NotApplicable, check, expect, expect_equal
from localllm.conformance.forcing import HELLO
from localllm.conformance.target import CHAT, Target

_FOREIGN = "https://evil.example"


def _need_local(target: Target) -> None:
    """Skip the check where the server is not on this machine; others may be meant to be called by any name."""
    host = urlsplit(target.options.root_url).hostname or ""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    if not is_local:
        raise NotApplicable("the server is not on this machine")


@check(19)
async def foreign_host_is_refused(target: Target) -> None:
    """A request for another name in its Host header is refused.

    A web page can have its own name lead to this machine (DNS rebinding), and then read every answer.
    """
    _need_local(target)
    answer = await target.wire.get("/v1/models", {"host": "evil.example"})
    expect(400 <= answer.status < 500, "HTTP 4xx", f"HTTP {answer.status}")


@check(19)
async def own_names_are_accepted(target: Target) -> None:
    """localhost and 127.0.0.1 are accepted."""
    _need_local(target)
    port = urlsplit(target.options.root_url).port or 80
    for name in ("localhost", "127.0.0.1"):
        answer = await target.wire.get("/v1/models", {"host": f"{name}:{port}"})
        expect_equal(f"the status for {name}", answer.status, 200)


@check(19)
async def foreign_pages_may_not_read(target: Target) -> None:
    """No foreign origin may read answers: CORS is off."""
    _need_local(target)
    answer = await target.wire.post(CHAT, target.body(HELLO, max_tokens=1), {"origin": _FOREIGN})
    allowed = answer.headers.get("access-control-allow-origin")
    expect(allowed not in ("*", _FOREIGN), "no access-control-allow-origin for it", allowed)


@check(19)
async def foreign_pages_may_not_ask(target: Target) -> None:
    """A browser that asks whether a foreign page may POST hears no."""
    _need_local(target)
    headers = {
        "origin": _FOREIGN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type",
    }
    answer = await target.wire.request("OPTIONS", CHAT, headers=headers)
    allowed = answer.headers.get("access-control-allow-origin")
    expect(allowed not in ("*", _FOREIGN), "no access-control-allow-origin for it", allowed)


@check(19)
async def names_do_not_leave_the_store(target: Target) -> None:
    """A path as a model's name is a model that there is not, and nothing of a file comes back."""
    for name in ("../../../../etc/passwd", "/etc/passwd", "..\\..\\windows\\win.ini", "file:///etc/passwd"):
        answer = await target.post_chat(HELLO, model=name, max_tokens=1)
        expect(answer.status in (400, 404), f"HTTP 404 for {name}", f"HTTP {answer.status}: {answer.text}")
        expect("root:" not in answer.text, "nothing of the file", answer.text)


@check(19)
async def key_is_not_repeated(target: Target) -> None:
    """An error never repeats a key that was sent."""
    answer = await target.wire.post(CHAT, b"{", {"authorization": "Bearer sk-very-secret-0123456789"})
    expect("very-secret" not in answer.text, "no key in the answer", answer.text)
