"""How quickly the terminal UI answers: python benchmarks/cockpit.py [--parts start idle load stream open memory]

The app runs in a pseudo-terminal of its own, as in a person's. A key's time is from writing it to the terminal until
its character comes back in what the app writes; each key is a character that nothing else writes. While a model
streams, that is a scripted one of 200 tokens a second, in pieces four times as many. Opening is from the key that
chooses a conversation of 5,000 messages until its last words are written, and a page of scrolling until the app is
silent again. First paint is from the start of `localllm` until the bar of modes is written. While a model loads, it is
`localllm` too, with --model (the demo model unless given), from the first key, which begins the load. For memory, the
app streams as many tokens as a model of 20 tokens a second says in an hour, in answers of some 2,000, one after the
other.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import random
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
from cockpit_child import MARKDOWN
from report import PartResult, count_claims, machine, write_parts

from tui.first_run import MARK

HERE = Path(__file__).parent
N_MESSAGES = 5000
LAST_WORDS = "Ωmega"
TOK_S = 200
FAST_TOK_S = 500
N_HOUR_TOKENS, N_ANSWER_TOKENS = 72_000, 2_000
KEYS = [chr(code) for code in range(0x0100, 0x0180) if chr(code).isalpha()]
SEND, KILL_LINE, NEXT_CHAT, PAGE_UP, BACK_TAB, STOP = b"\r", b"\x15", b"\x1b[6;5~", b"\x1b[5~", b"\x1b[Z", b"\x1b"
SILENCE_S = 0.03


class Terminal:
    """An app in a terminal of 120 by 40, and what it has written since the last look."""

    def __init__(self, home: Path, command: Sequence[str], model: str) -> None:
        self.began_s = time.perf_counter()
        self._main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environment = os.environ | {
            "LOCALLLM_HOME": str(home),
            "LOCALLLM_MODEL": model,
            "PYTHONPATH": str(HERE.parent),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        self._process = subprocess.Popen(
            command, stdin=side, stdout=side, stderr=side, env=environment, start_new_session=True
        )
        os.close(side)

    def write(self, keys: bytes) -> float:
        """Press keys; return when."""
        at_s = time.perf_counter()
        os.write(self._main, keys)
        return at_s

    def until(self, text: str, limit_s: float = 20.0) -> float:
        """Return when `text` has been written."""
        wanted, seen = text.encode(), b""
        end_s = time.perf_counter() + limit_s
        while time.perf_counter() < end_s:
            seen = seen[-len(wanted) :] + self.read(0.1)
            if wanted in seen:
                return time.perf_counter()
        raise TimeoutError(f"{text!r} was not written within {limit_s:g} s")

    def silent(self, limit_s: float = 5.0, silence_s: float = SILENCE_S) -> float:
        """Return when the app had written all that it had to; at the limit if it does not stop."""
        last_s = time.perf_counter()
        end_s = last_s + limit_s
        while time.perf_counter() < end_s and self.read(silence_s):
            last_s = time.perf_counter()
        return last_s

    def answered(self, limit_s: float = 5.0) -> float:
        """Return when the app had written all of its answer to a key."""
        if not self.read(limit_s):
            raise TimeoutError(f"nothing was written within {limit_s:g} s")
        return self.silent()

    @property
    def rss_bytes(self) -> int:
        """What the app, without its worker, has in memory."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def close(self) -> None:
        """End the app and all that it started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._main)

    def read(self, limit_s: float) -> bytes:
        """Return what the app writes next; nothing if that takes longer than the limit."""
        ready, _, _ = select.select([self._main], [], [], limit_s)
        return os.read(self._main, 1 << 16) if ready else b""


def scripted(tok_s: int) -> list[str]:
    """Return what starts the app with a scripted model."""
    return [sys.executable, str(HERE / "cockpit_child.py"), str(tok_s)]


def real(home: Path) -> list[str]:
    """Return what starts the program itself, for somebody who was here before."""
    (home / "data").mkdir()
    (home / "data" / MARK).touch()
    return [sys.executable, "-m", "localllm"]


@contextmanager
def terminal(home: Path, command: Sequence[str], model: str = "scripted") -> Iterator[Terminal]:
    """Yield the app, ready for keys."""
    app = Terminal(home, command, model)
    try:
        app.until("Models")
        app.silent(silence_s=1.0)
        yield app
    finally:
        app.close()


def key_times(app: Terminal, n_keys: int) -> list[float]:
    """Press keys one after the other, at a person's unsteady pace; return the seconds that each took."""
    draw = random.Random(7)
    found = []
    for number in range(n_keys):
        if number % 40 == 0:
            app.write(KILL_LINE)
        key = KEYS[number % len(KEYS)]
        wait_s = time.perf_counter() + draw.uniform(0.02, 0.12)
        while (left_s := wait_s - time.perf_counter()) > 0:
            app.read(left_s)
        pressed_s = app.write(key.encode())
        found.append(app.until(key) - pressed_s)
    return found


def start_part(n_runs: int) -> PartResult:
    """Measure the first paint."""
    part = PartResult(f"First paint, {n_runs} starts")
    found = []
    for _ in range(n_runs):
        with tempfile.TemporaryDirectory() as home:
            app = Terminal(Path(home), real(Path(home)), "smollm2")
            try:
                found.append(app.until("Models") - app.began_s)
            finally:
                app.close()
    add_times(part, "from start to first paint", found)
    median_s = statistics.median(found)
    part.judge("first paint", "≤ 0.6 s in the median", f"{median_s:.2f} s", median_s <= 0.6)
    return part


def key_part(n_keys: int, *, is_streaming: bool) -> PartResult:
    """Measure keys, alone or beside a stream."""
    what = f"while a model streams {TOK_S} tokens a second" if is_streaming else "while nothing happens"
    part = PartResult(f"Key to screen {what}, {n_keys} keys")
    with tempfile.TemporaryDirectory() as home, terminal(Path(home), scripted(TOK_S)) as app:
        if is_streaming:
            app.write(b"Go")
            app.until("Go")
            app.write(SEND)
            app.until("heading")
        found = key_times(app, n_keys)
    judge_keys(part, what, found)
    return part


def load_part(n_keys: int, model: str) -> PartResult:
    """Measure keys while a real model loads, and is warmed up, in its process."""
    part = PartResult(f"Key to screen while a model loads, {n_keys} keys")
    with tempfile.TemporaryDirectory() as home, terminal(Path(home), real(Path(home)), model) as app:
        judge_keys(part, "while a model loads", key_times(app, n_keys))
    return part


def judge_keys(part: PartResult, what: str, found: list[float]) -> None:
    add_times(part, "key to screen", found)
    at_95_s = quantile_95(found)
    part.judge(f"key to screen {what}", "≤ 50 ms at the 95 % quantile", f"{at_95_s * 1e3:.1f} ms", at_95_s <= 0.05)


def memory_part() -> PartResult:
    """Measure what is in memory after each of many answers."""
    part = PartResult(f"{N_HOUR_TOKENS:,} tokens, in answers of about {N_ANSWER_TOKENS:,}")
    found = []
    with tempfile.TemporaryDirectory() as home, terminal(Path(home), scripted(FAST_TOK_S)) as app:
        for _ in range(N_HOUR_TOKENS // N_ANSWER_TOKENS):
            app.write(b"Go")
            app.silent()
            app.write(SEND)
            end_s = time.perf_counter() + N_ANSWER_TOKENS / FAST_TOK_S
            while time.perf_counter() < end_s:
                app.read(0.05)
            app.write(STOP)
            app.silent(silence_s=0.5)
            found.append(app.rss_bytes / 1e6)
    half = len(found) // 2
    part.add("after the first answer", f"{found[0]:.1f} MB")
    part.add("half way", f"{found[half]:.1f} MB")
    part.add("at the end", f"{found[-1]:.1f} MB")
    growth = found[-1] / found[half] - 1
    part.judge("memory in the second half", "grows by 5 % at most", f"{growth:+.1%}", growth <= 0.05)
    part.raw["rss_mb"] = found
    return part


def open_part(n_runs: int) -> PartResult:
    """Measure opening a long conversation, and scrolling through it."""
    part = PartResult(f"A conversation of {N_MESSAGES:,} messages, {n_runs} times opened")
    opened, pages = [], []
    for _ in range(n_runs):
        with tempfile.TemporaryDirectory() as home:
            write_conversation(Path(home))
            with terminal(Path(home), scripted(TOK_S)) as app:
                pressed_s = app.write(NEXT_CHAT)
                opened.append(app.until(LAST_WORDS) - pressed_s)
                app.silent()
                app.write(BACK_TAB)
                app.silent()
                for _ in range(20):
                    pressed_s = app.write(PAGE_UP)
                    pages.append(app.answered() - pressed_s)
    add_times(part, "opening", opened)
    add_times(part, "a page up", pages)
    median_s, at_95_s = statistics.median(opened), quantile_95(pages)
    part.judge("opening", "≤ 0.5 s in the median", f"{median_s:.2f} s", median_s <= 0.5)
    part.judge("a page of it", "≤ 50 ms at the 95 % quantile", f"{at_95_s * 1e3:.1f} ms", at_95_s <= 0.05)
    return part


def write_conversation(home: Path) -> None:
    """Write a long conversation; the app begins with an empty one."""
    from localllm import paths
    from localllm.conversations import ConversationStore

    os.environ["LOCALLLM_HOME"] = str(home)
    paths.ensure(paths.data_dir())
    store = ConversationStore.open()
    long = store.create(title="Long")
    parent = None
    for number in range(1, N_MESSAGES):
        is_question = number % 2 == 1
        text = f"Question {number}?" if is_question else f"Answer {number}.\n\n{MARKDOWN}"
        parent = store.add(long.id, parent, "user" if is_question else "assistant", text).id
    store.add(long.id, parent, "user", LAST_WORDS)
    store.close()


def add_times(part: PartResult, name: str, seconds: list[float]) -> None:
    """Add the median and the 95 % quantile to a part's table, and every number to its raw ones."""
    part.add(f"{name}, median", f"{statistics.median(seconds) * 1e3:.1f} ms")
    part.add(f"{name}, 95 %", f"{quantile_95(seconds) * 1e3:.1f} ms")
    part.add(f"{name}, longest", f"{max(seconds) * 1e3:.1f} ms")
    part.raw[name] = seconds


def quantile_95(seconds: list[float]) -> float:
    """Return the time that 95 % of all take at most."""
    return sorted(seconds)[min(round(0.95 * len(seconds)), len(seconds) - 1)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="smollm2", help="that is loaded in the part load")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    facts = {name: value for name, value in machine().items() if not name.startswith(("llama", "xllama", "features"))}
    facts["command"] = " ".join(sys.argv)
    for name, value in facts.items():
        print(f"{name:<18}  {value}")
    results = {}
    for name in chosen.parts:
        results[name] = PARTS[name](chosen)
        results[name].print()
        write_parts(chosen.json, facts, results)
    return count_claims(results.values())


PARTS = {
    "start": lambda chosen: start_part(chosen.runs),
    "idle": lambda chosen: key_part(chosen.keys, is_streaming=False),
    "load": lambda chosen: load_part(chosen.keys, chosen.model),
    "stream": lambda chosen: key_part(chosen.keys, is_streaming=True),
    "open": lambda chosen: open_part(chosen.runs),
    "memory": lambda _: memory_part(),
}

if __name__ == "__main__":
    sys.exit(main())
