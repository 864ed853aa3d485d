"""The built-in pages' files."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter, Request
from starlette.responses import Response

from localllm.server.page import FILES, HEADERS, PageFile

router = APIRouter()


class _Served:
    """One file, read once; a browser that has it already gets 304."""

    def __init__(self, file: PageFile) -> None:
        self._body = file.read()
        self._headers = {
            **HEADERS,
            "content-type": file.media_type,
            "cache-control": "no-cache",
            "etag": f'"{hashlib.sha256(self._body).hexdigest()[:24]}"',
        }

    async def __call__(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self._headers["etag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)


for _path, _file in FILES.items():
    router.add_route(_path, _Served(_file).__call__, methods=["GET"], include_in_schema=False)
