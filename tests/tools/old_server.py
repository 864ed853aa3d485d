"""A tool server of the older protocol, by hand: its tools come in pages, and a call changes them."""

from __future__ import annotations

import json
import sys
from typing import Any

N_PAGES = 3
names = ["tool-0", "tool-1", "tool-2"]


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        capabilities = {"tools": {"listChanged": True}}
        info = {"name": "old", "version": "1"}
        return {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info}
    if method == "tools/list":
        page = int(params.get("cursor") or 0)
        tools = [{"name": names[page], "inputSchema": {"type": "object", "not": {}}}]
        return {"tools": tools, "nextCursor": str(page + 1)} if page + 1 < N_PAGES else {"tools": tools}
    if method == "tools/call":
        names[0] = "other"
        send({"method": "notifications/tools/list_changed"})
        return {"content": [{"type": "text", "text": params["name"]}], "structuredContent": {"n": 1}}
    return None


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def send(message: dict[str, Any]) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}))


def main() -> None:
    write("this line is not of the protocol")
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message["method"], message.get("params") or {})
        error = {"error": {"code": -32601, "message": "No such method"}}
        send({"id": message["id"], **(error if result is None else {"result": result})})


if __name__ == "__main__":
    main()
