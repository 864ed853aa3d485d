"""`localllm bench @lab`: how fast a remote answers one client, and several at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from localllm._version import __version__
from localllm.cli.numbers import json_text
from localllm.cli.output_files import show_report
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.cli.tables import table
from localllm.errors import RequestError
from localllm.evaluate import default_text, read_text
from localllm.evaluate.remote_speed import ROUNDS, Level, measure_speed
from localllm.hub.refs import RemoteRef
from localllm.remotes import RemoteClient, remote_of

_MAX_CLIENTS = 256


@dataclass(frozen=True)
class SpeedReport:
    """What was measured, and on what."""

    model: str
    engine: str
    version: str
    n_tokens: int
    levels: Sequence[Level]

    def json(self) -> str:
        """Return one JSON object."""
        return json_text(
            {
                "version": __version__,
                "model": self.model,
                "engine": self.engine,
                "engine_version": self.version or None,
                "max_tokens": self.n_tokens,
                "levels": [_fields(level) for level in self.levels],
            }
        )

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        yield from table([_HEAD, *map(_cells, self.levels)], range(len(_HEAD)))

    def remarks(self) -> Iterator[str]:
        """Yield what one must know to read it."""
        prompts = [answer.n_prompt for level in self.levels for answer in level.answers]
        length = f"{min(prompts)} to {max(prompts)} tokens" if prompts else "unknown length"
        yield f"{self.model} on {self.engine} {self.version}".rstrip() + ", as seen from here, the network included."
        yield f"{ROUNDS} answers of at most {self.n_tokens} tokens for each client; prompts of {length}, all different."
        for level in self.levels:
            if level.errors:
                yield f"{level.n_clients} clients: {len(level.errors)} failed, the first so: {level.errors[0].message}"


_HEAD = ("clients", "tok/s", "tok/s of one", "first token s", "slowest s", "answers", "failed")


def _cells(level: Level) -> tuple[str, ...]:
    return (
        str(level.n_clients),
        f"{level.tok_s:.1f}",
        f"{level.stream_tok_s:.1f}",
        f"{level.ttft_s:.3f}",
        f"{level.ttft_max_s:.3f}",
        str(len(level.answers)),
        str(len(level.errors)),
    )


def _fields(level: Level) -> dict[str, object]:
    return {
        "clients": level.n_clients,
        "wall_s": level.wall_s,
        "tok_s": level.tok_s,
        "stream_tok_s": level.stream_tok_s,
        "ttft_s": level.ttft_s,
        "ttft_max_s": level.ttft_max_s,
        "completion_tokens": sum(answer.n_tokens for answer in level.answers),
        "n_answers": len(level.answers),
        "errors": [error.message for error in level.errors],
    }


def bench_remote(ref: RemoteRef, texts: Sequence[Path], clients: str, n_tokens: int, json_file: str | None) -> None:
    """Measure a remote and print what was found.

    Raises:
        RequestError: a flag's value is not allowed, or nothing was answered.
        LocalLLMError: the remote cannot be asked.
    """
    counts = _counts(clients)
    if n_tokens < 2:
        raise RequestError(f"--max-tokens is {n_tokens}; speed takes at least 2.", hint="Leave it out for 64.")
    text = "\n\n".join(map(read_text, texts)) if texts else default_text()
    client = RemoteClient(remote_of(ref))
    status = StatusLine(LOG_EVERY_S)
    try:
        levels = measure_speed(client, text, counts, n_tokens, lambda n: status.show(f"{n} clients at once"))
    finally:
        status.clear()
    show_report(SpeedReport(client.card.id, client.engine.name, client.version(), n_tokens, levels), json_file)
    failures = [error for level in levels for error in level.errors]
    if failures and not any(level.answers for level in levels):
        raise failures[0]


def _counts(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= _MAX_CLIENTS for word in words):
        raise RequestError(
            f"--clients is {text!r}; it must be numbers from 1 to {_MAX_CLIENTS}.", hint="Write it like 1,4,8."
        )
    return tuple(map(int, words))
