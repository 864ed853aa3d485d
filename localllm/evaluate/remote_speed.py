"""How fast a remote answers one client, and several at once, as its clients see it: the network is part of it.

Each client asks one question after the other, and all begin together. Prompts differ from their first words on, so that
what a server keeps of prompts helps none of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from localllm.errors import LocalLLMError
from localllm.remotes import CallPiece, ReasoningPiece, RemoteClient, TextPiece, TokenCounts

ROUNDS = 2
"""Questions of each client."""
_PROMPT_CHARS = 1200
_STEP_CHARS = 397

OnLevel = Callable[[int], None]
"""Called with the number of clients before they begin."""


@dataclass(frozen=True)
class Timed:
    """One answer: seconds from the question, and the server's counts of tokens."""

    ttft_s: float
    total_s: float
    n_prompt: int
    n_tokens: int

    @property
    def stream_tok_s(self) -> float:
        """Tokens a second after the first one; 0.0 where there is no second one."""
        seconds = self.total_s - self.ttft_s
        return (self.n_tokens - 1) / seconds if seconds > 0 and self.n_tokens > 1 else 0.0


@dataclass(frozen=True)
class Level:
    """What so many clients at once saw."""

    n_clients: int
    wall_s: float
    """From the first question to the end of the last answer."""
    answers: tuple[Timed, ...]
    errors: tuple[LocalLLMError, ...] = field(default=(), repr=False)

    @property
    def tok_s(self) -> float:
        """Tokens a second, all clients together, the reading of prompts included."""
        return sum(answer.n_tokens for answer in self.answers) / self.wall_s

    @property
    def ttft_s(self) -> float:
        """The median; NaN where nobody was answered."""
        return _median([answer.ttft_s for answer in self.answers])

    @property
    def ttft_max_s(self) -> float:
        return max((answer.ttft_s for answer in self.answers), default=float("nan"))

    @property
    def stream_tok_s(self) -> float:
        """The median of what one client saw."""
        return _median([answer.stream_tok_s for answer in self.answers])


def measure_speed(
    client: RemoteClient, text: str, clients: Sequence[int], n_tokens: int, on_level: OnLevel | None = None
) -> list[Level]:
    """Measure each number of clients in turn, after one question that nobody times.

    Args:
        client: of the remote.
        text: what prompts are cut from.
        clients: how many at once.
        n_tokens: of an answer, at most.

    Raises:
        LocalLLMError: the first question fails; later failures are counted.
    """
    prompts = _Prompts(text)
    _ask(client, prompts.next(), n_tokens)
    levels = []
    for n_clients in clients:
        if on_level is not None:
            on_level(n_clients)
        levels.append(_level(client, prompts, n_clients, n_tokens))
    return levels


class _Prompts:
    """Questions about pieces of a text, each with a beginning of its own."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._n = 0
        self._lock = threading.Lock()

    def next(self) -> str:
        with self._lock:
            self._n += 1
            start = self._n * _STEP_CHARS % max(1, len(self._text) - _PROMPT_CHARS)
            piece = self._text[start : start + _PROMPT_CHARS]
            return f"{self._n}. {piece}\n\nGo on with this story, at length."


def _level(client: RemoteClient, prompts: _Prompts, n_clients: int, n_tokens: int) -> Level:
    barrier = threading.Barrier(n_clients + 1)

    def one_client() -> list[Timed | LocalLLMError]:
        barrier.wait()
        found: list[Timed | LocalLLMError] = []
        for _ in range(ROUNDS):
            try:
                found.append(_ask(client, prompts.next(), n_tokens))
            except LocalLLMError as error:
                found.append(error)
        return found

    with ThreadPoolExecutor(n_clients) as pool:
        running = [pool.submit(one_client) for _ in range(n_clients)]
        barrier.wait()
        started_s = time.perf_counter()
        results = [result for future in running for result in future.result()]
        wall_s = time.perf_counter() - started_s
    return Level(
        n_clients,
        wall_s,
        tuple(result for result in results if isinstance(result, Timed)),
        tuple(result for result in results if isinstance(result, LocalLLMError)),
    )


def _ask(client: RemoteClient, prompt: str, n_tokens: int) -> Timed:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": n_tokens,
        "temperature": 0.0,
    }
    if client.engine.field_of("ignore_eos"):
        body["ignore_eos"] = True
    started_s, first_s, n_pieces = time.perf_counter(), None, 0
    last_s = started_s
    counts: TokenCounts | None = None
    with closing(client.chat(body)) as answer:
        for delta in answer.deltas():
            if isinstance(delta, TextPiece | ReasoningPiece | CallPiece):
                last_s = time.perf_counter()
                first_s = first_s or last_s
                n_pieces += 1
            elif isinstance(delta, TokenCounts):
                counts = delta
    found = counts or TokenCounts(0, n_pieces)
    return Timed((first_s or last_s) - started_s, last_s - started_s, found.prompt, found.completion)


def _median(values: Sequence[float]) -> float:
    return median(values) if values else float("nan")
