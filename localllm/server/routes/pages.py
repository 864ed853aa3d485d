"""The built-in pages' files."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from localllm.server.page import FILES, HEADERS, PageFile

router = APIRouter()

_GREETING = "Ollama is running"
"""What programs get at /: Ollama's clients know by it that a server is there."""


class _Served:
    """One file, read once; a browser that has it already gets 304."""

    def __init__(self, file: PageFile) -> None:
        self._body = file.read()
        self._headers = {
            **HEADERS,
            "content-type": file.media_type,
            "cache-control": "no-cache",
            "etag": f'"{hashlib.sha256(self._body).hexdigest()[:24]}"',
            "vary": "accept",
        }

    async def answer(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self._headers["etag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)

    async def answer_browsers(self, request: Request) -> Response:
        """Answer those who can show a page; a greeting to others."""
        if "text/html" in request.headers.get("accept", ""):
            return await self.answer(request)
        return PlainTextResponse(_GREETING, headers={"vary": "accept"})


for _path, _file in FILES.items():
    _served = _Served(_file)
    _answer = _served.answer_browsers if _path == "/" else _served.answer
    router.add_route(_path, _answer, methods=["GET"], include_in_schema=False)
