"""Part (b): generated tokens a second, against llama.cpp's own server, with 1, 4 and 8 streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from intervals import ratio_interval
from ours import Ours, Settings, open_ours
from peer import Peer
from prompts import Prompts
from report import PartResult

from localllm.llama import Model

N_PROMPT = 32
N_TOKENS = 64
MIN_RATIO = 0.95


class _Stream(Protocol):
    started_s: float

    @property
    def text(self) -> str: ...
    @property
    def n_tokens(self) -> int: ...
    @property
    def last_s(self) -> float: ...
    def wait(self) -> object: ...


def _block(side: Ours | Peer, prompts: list[list[int]]) -> tuple[float, Sequence[_Stream]]:
    """Run the prompts at once; return the seconds from the first submission to the last token, and the streams."""
    streams: Sequence[_Stream] = [side.start(prompt, N_TOKENS) for prompt in prompts]
    for stream in streams:
        stream.wait()
    return max(s.last_s for s in streams) - min(s.started_s for s in streams), streams


def run(settings: Settings, model: Model, n_pairs: int) -> PartResult:
    where = "worker process" if settings.worker else "this process"
    result = PartResult(f"(b) Throughput against llama.cpp's server, {n_pairs} pairs, ours in {where}")
    prompts = Prompts(model.vocab, settings.seed + 1)
    with open_ours(settings, model) as ours, Peer(settings) as peer:
        for n_streams in (n for n in settings.streams if n <= settings.n_slots):
            _compare(result, ours, peer, prompts, n_streams, n_pairs)
    return result


def _compare(result: PartResult, ours: Ours, peer: Peer, prompts: Prompts, n_streams: int, n_pairs: int) -> None:
    pairs: list[dict[str, Any]] = []
    for i in range(n_pairs + 1):
        batch = [prompts.text(N_PROMPT) for _ in range(n_streams)]
        if i % 2:
            peer_s, theirs = _block(peer, batch)
            ours_s, mine = _block(ours, batch)
        else:
            ours_s, mine = _block(ours, batch)
            peer_s, theirs = _block(peer, batch)
        pairs.append(
            {
                "ours_s": ours_s,
                "peer_s": peer_s,
                "ours_n": sum(s.n_tokens for s in mine),
                "peer_n": sum(s.n_tokens for s in theirs),
                "n_same_text": sum(a.text == b.text for a, b in zip(mine, theirs, strict=True)),
            }
        )
    _report(result, pairs[1:], n_streams)


def _report(result: PartResult, pairs: list[dict[str, Any]], n_streams: int) -> None:
    interval = ratio_interval([p["ours_n"] / p["ours_s"] / (p["peer_n"] / p["peer_s"]) for p in pairs])
    ours, peer = (sum(p[f"{s}_n"] for p in pairs) / sum(p[f"{s}_s"] for p in pairs) for s in ("ours", "peer"))
    n_same = sum(p["n_same_text"] for p in pairs)
    n_all = n_streams * len(pairs)
    name = f"{n_streams} stream{'s' if n_streams > 1 else ''}"
    result.add(f"{name}: ours, peer", f"{ours:.1f}, {peer:.1f} tok/s")
    result.add(f"{name}: ours/peer", interval)
    result.add(f"{name}: same text", f"{n_same} of {n_all} ({n_same / n_all:.0%})")
    result.judge(
        f"throughput ours/peer, {name}",
        f"lower 95 % bound ≥ {MIN_RATIO}",
        f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]",
        interval.low >= MIN_RATIO,
    )
    expected = n_streams * N_TOKENS
    result.judge(
        f"all tokens were generated, {name}",
        f"{expected} a block on both sides",
        f"{sorted({p['ours_n'] for p in pairs})}, {sorted({p['peer_n'] for p in pairs})}",
        all(p["ours_n"] == p["peer_n"] == expected for p in pairs),
    )
    result.raw[name] = {"pairs": pairs, "ratio": interval.as_dict()}
