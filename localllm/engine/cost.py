"""What a step costs on this machine, learned while it runs, so that prompt chunks can be sized in seconds.

A step decodes one token for each running stream and, in the same batch, a chunk of a waiting prompt. The model is
t = decode(n_streams) + n_chunk * per_token, both parts exponential averages. It knows nothing of context depth; the
averages follow it.
"""

from __future__ import annotations

_DECODE_WEIGHT = 0.15
_CHUNK_WEIGHT = 0.3
_FIRST_CHUNK = 64
_MIN_CHUNK = 8

MAX_STEP_S = 0.25
"""A step that carries running streams takes about this long at most."""
MAX_STALL = 3.34
"""... and at most this many times a step without a chunk, so that streams stay smooth."""
SMOOTH_STEP_S = 0.05
"""... but never shorter than this: nobody sees a pause of a twentieth of a second, and tiny chunks cost everybody."""
MAX_IDLE_STEP_S = 4.0
"""With no stream running, a step is bounded only so that a newcomer soon gets its turn (a cancel ends it at once)."""
YOUNG_SHARE = 0.1
"""With no stream running, a newcomer may have this share of a step computed again, to be part of it."""
IDLE_VISIT_S = 0.5
"""With no stream running, other work on the engine's thread takes this long at most before requests are looked at."""
_TILE = 64
"""llama.cpp's CPU attention works in tiles of this many tokens; a chunk that fills its tiles wastes nothing."""


class StepCost:
    """Averages of measured steps, in seconds."""

    def __init__(self) -> None:
        self._decode_s: dict[int, float] = {}
        self._per_token_s: float | None = None

    def observe(self, n_streams: int, n_chunk: int, seconds: float) -> None:
        """Learn from a step of `n_streams` decoded tokens and `n_chunk` prompt tokens."""
        if n_chunk == 0:
            old = self._decode_s.get(n_streams)
            self._decode_s[n_streams] = seconds if old is None else old + _DECODE_WEIGHT * (seconds - old)
            return
        if n_chunk < _MIN_CHUNK:
            return
        sample = max(seconds - self.decode_s(n_streams), seconds * 0.05) / n_chunk
        old = self._per_token_s
        self._per_token_s = sample if old is None else old + _CHUNK_WEIGHT * (sample - old)

    def decode_s(self, n_streams: int) -> float:
        """Predict a step without a chunk; the nearest measured number of streams stands in for an unknown one."""
        if n_streams == 0 or not self._decode_s:
            return 0.0
        known = self._decode_s.get(n_streams)
        if known is None:
            known = self._decode_s[min(self._decode_s, key=lambda n: abs(n - n_streams))]
        return known

    def step_target_s(self, n_streams: int) -> float:
        """Return how long a step may take that `n_streams` running streams wait for."""
        return _step_target_s(self.decode_s(n_streams))

    def visit_s(self, n_streams: int) -> float:
        """Return how long a visitor may compute between two steps: what a chunk of a prompt may take in one."""
        return self.step_target_s(n_streams) - self.decode_s(n_streams) if n_streams else IDLE_VISIT_S

    def prefill_s(self, n_chunk: int) -> float:
        """Predict a step of `n_chunk` prompt tokens; 0 where nothing is known."""
        return n_chunk * (self._per_token_s or 0.0)

    def chunk(self, n_streams: int) -> int:
        """Return how many prompt tokens the next step may carry beside `n_streams` running streams."""
        if self._per_token_s is None:
            return _FIRST_CHUNK if n_streams == 0 else _FIRST_CHUNK // 4
        if n_streams == 0:
            n = int(MAX_IDLE_STEP_S / self._per_token_s)
            return max(_MIN_CHUNK, n - n % _TILE if n > _TILE else n)
        decode_s = self.decode_s(n_streams)
        return max(_MIN_CHUNK, int((_step_target_s(decode_s) - decode_s) / self._per_token_s))


def _step_target_s(decode_s: float) -> float:
    """Return how long a step with running streams may take, whose tokens alone take `decode_s`."""
    return min(MAX_STEP_S, max(MAX_STALL * decode_s, SMOOTH_STEP_S)) if decode_s else MAX_STEP_S
