"""The server's log lines: for people, or as JSON for programs. Never a prompt, an answer or a key."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from typing import Any, Literal

from localllm.gguf import printable
from localllm.server.wire.frames import to_json

LogFormat = Literal["text", "json"]

_MAX_FIELD_CHARS = 300
_MAX_MESSAGE_CHARS = 2000


def _headline(record: logging.LogRecord) -> str:
    """Return a message's first line; asyncio's next ones quote errors."""
    return record.getMessage().partition("\n")[0]


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Name the errors and where they were raised, without their messages, which may quote a prompt."""
        lines: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None:
            lines.append(f"{type(error).__name__}:\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip())
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\nafter ".join(lines)


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        # A path may hold line breaks, which would forge a line, and escape sequences.
        more = "".join(f" {key}={printable(str(value), _MAX_FIELD_CHARS)}" for key, value in fields.items())
        text = f"{stamp} {record.levelname.lower()} {printable(_headline(record), _MAX_MESSAGE_CHARS)}{more}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _headline(record),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return to_json(line).decode()


def configure_logging(level: str, form: LogFormat) -> None:
    """Send our loggers' lines, and uvicorn's, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if form == "json" else _TextFormatter())
    for name in ("localllm", "uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level.upper() if name != "asyncio" else "WARNING")
    logging.getLogger("uvicorn.access").disabled = True
    # Its news of starting and stopping say less than ours.
    logging.getLogger("uvicorn").setLevel(max(logging.getLevelName(level.upper()), logging.WARNING))
