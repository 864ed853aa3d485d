"""What is said on stderr while a model works, and after: one line that replaces itself, and a summary of speed."""

from __future__ import annotations

import shutil
import sys
import threading
import time

from localllm.llm.events import Done, Progress, Waiting

LONG_PROMPT_TOKENS = 512
"""A prompt with fewer tokens to read is read before anyone wonders."""

LOG_EVERY_S = 60.0
"""Of work that may take hours, for those who read its output in a file."""

_ERASE = "\r\x1b[2K"


class StatusLine:
    """A line on stderr that replaces itself. Safe on any thread.

    Args:
        log_every_s: where stderr is not a terminal, how often a line of its own says how far the work is, the first
            after so long; None says nothing there.
    """

    def __init__(self, log_every_s: float | None = None) -> None:
        self._is_terminal = sys.stderr is not None and sys.stderr.isatty()
        self._log_every_s = log_every_s
        self._logged = time.monotonic()
        self._lock = threading.Lock()
        self._shown = ""
        self._has_waited = False

    def show(self, text: str) -> None:
        """Replace the line by `text`."""
        with self._lock:
            if self._is_terminal and text != self._shown:
                self._shown = text
                self._write(_ERASE + text[: shutil.get_terminal_size().columns - 1])
            elif not self._is_terminal and self._log_every_s is not None and sys.stderr is not None:
                self._log(text, self._log_every_s)

    def _log(self, text: str, every_s: float) -> None:
        now = time.monotonic()
        if now - self._logged >= every_s:
            self._logged = now
            self._write(f"{text}\n")

    def clear(self) -> None:
        """Erase the line."""
        with self._lock:
            if self._shown:
                self._shown = ""
                self._write(_ERASE)

    def loading(self, share: float) -> None:
        """Show how much of the model is loaded, 0.0 to 1.0."""
        self.show(f"loading the model {share:.0%}")

    def reading(self, progress: Progress) -> None:
        """Show how much of a long prompt has been read."""
        if progress.n_done >= progress.n_total:
            self.clear()
        elif progress.n_total - progress.n_cached >= LONG_PROMPT_TOKENS:
            self.show(f"reading the prompt {progress.n_done}/{progress.n_total}")

    def waiting(self, waiting: Waiting) -> None:
        """Show how long a remote has said nothing; where stderr is not a terminal, once."""
        text = f"no word from the remote for {waiting.silent_s:.0f} s"
        if self._is_terminal:
            self.show(text)
        elif not self._has_waited and sys.stderr is not None:
            self._has_waited = True
            self._write(f"{text}\n")

    @staticmethod
    def _write(text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def speed_summary(done: Done) -> str:
    """Return one line: `24 tokens · 152 tok/s · first token 0.08 s · prompt 31 tokens (0 reused)`."""
    usage, timings = done.usage, done.timings
    return (
        f"{_tokens(usage.completion_tokens)} · {timings.decode_tok_s:.{_digits(timings.decode_tok_s)}f} tok/s"
        f" · first token {timings.ttft_s:.2f} s · prompt {_tokens(usage.prompt_tokens)} ({usage.cached_tokens} reused)"
        f"{_evicted(usage.evicted_tokens)}"
    )


def chat_summary(done: Done, n_ctx: int) -> str:
    """Return one line: `152 tok/s · first token 0.08 s · context 310/4096 · 280 reused`; an `n_ctx` of 0 is unknown."""
    usage, timings = done.usage, done.timings
    n_used = usage.prompt_tokens + usage.completion_tokens - usage.evicted_tokens
    limit = f"/{n_ctx}" if n_ctx else ""
    return (
        f"{timings.decode_tok_s:.{_digits(timings.decode_tok_s)}f} tok/s · first token {timings.ttft_s:.2f} s"
        f" · context {n_used}{limit} · {usage.cached_tokens} reused{_evicted(usage.evicted_tokens)}"
    )


def _evicted(count: int) -> str:
    return f" · {_tokens(count)} forgotten" if count else ""


def _tokens(count: int) -> str:
    return f"{count} token{'' if count == 1 else 's'}"


def _digits(tok_s: float) -> int:
    return 0 if tok_s >= 100 else 1
