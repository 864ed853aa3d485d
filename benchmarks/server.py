"""Measure the server over HTTP: python benchmarks/server.py [--model PATH] [--part load chat] [--rounds N] [--json OUT]

Needs `pip install localllm[demo,server] xllamacpp`, and a machine with nothing else to do. Ours is `localllm serve` in
a process of its own; the peer is llama.cpp's own server (the `xllamacpp` wheel), also a process; both on loopback, with
the same model, context, slots, threads, batch sizes, KV type and unified KV, without speculation. One client process
sends streamed chat completions over raw sockets and parses them when all have arrived; the processor time that it took
is printed. The two libraries are different builds of llama.cpp: the CPU features of both are printed.

load   1, 4, 8 and 16 clients at once, each of which sends one request after the other: distinct prompts of some
       sentences, a fixed number of tokens that no end of turn shortens, temperature 0. Rounds are measured in turns,
       first ours, then the peer, then the other way round, after a round that does not count. Tokens a second are all
       tokens of a round over its duration, prompts included. Time to the first token and time between tokens are seen
       by the client. Each figure is taken a round; the ratios of the rounds have a median and a 95 % interval.
chat   A conversation of ten turns, in turns with the peer's: how long the first token of each later turn takes, which
       is what the prefix cache is for. Both servers keep what they keep by default.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from intervals import median_interval, ratio_interval
from load import Load
from our_server import OurServer
from ours import Settings
from peer import Peer
from prompts import sentence
from report import PartResult, count_claims, introduce, write_parts

from localllm.hardware.cpu import n_compute_threads
from localllm.store import resolve

MIN_RATIO = 0.95
MIN_MEDIAN_RATIO = 1.0
MAX_LATENCY_RATIO = 1.1
SIDES = ("ours", "peer")

Ports = dict[str, int]


def body(messages: list[dict[str, str]], n_tokens: int) -> dict[str, Any]:
    """Return a request that both servers understand alike."""
    return {
        "messages": messages,
        "max_tokens": n_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def story(rng: np.random.Generator, n_sentences: int) -> list[dict[str, str]]:
    text = "".join(sentence(rng) for _ in range(n_sentences))
    return [{"role": "user", "content": f"{text}Tell what happens next."}]


def in_turns(index: int) -> tuple[str, ...]:
    return SIDES if index % 2 == 0 else SIDES[::-1]


def run_load(load: Load, ports: Ports, args: argparse.Namespace) -> PartResult:
    result = PartResult(f"(load) {args.rounds} rounds of {args.requests} requests a client, {args.tokens} tokens each")
    rng = np.random.default_rng(args.seed)
    for n_clients in args.clients:
        rounds: list[dict[str, Any]] = []
        for index in range(args.rounds + 1):
            clients = [[body(story(rng, 3), args.tokens) for _ in range(args.requests)] for _ in range(n_clients)]
            rounds.append({side: load.run(ports[side], clients) for side in in_turns(index)})
        report_load(result, rounds[1:], n_clients, args.tokens)
    return result


def report_load(result: PartResult, rounds: list[dict[str, Any]], n_clients: int, n_tokens: int) -> None:
    speeds = {
        side: [sum(q["n_tokens"] for q in r[side]["requests"]) / r[side]["seconds"] for r in rounds] for side in SIDES
    }
    ratio = ratio_interval([a / b for a, b in zip(speeds["ours"], speeds["peer"], strict=True)])
    requests = {side: [q for r in rounds for q in r[side]["requests"]] for side in SIDES}
    name = f"{n_clients:>2} client{'s' if n_clients > 1 else ' '}"
    result.add(
        f"{name}  tokens/s", f"ours {_mean(speeds['ours']):.1f}, peer {_mean(speeds['peer']):.1f}, ratio {ratio}"
    )
    latencies = {}
    for label, key, quantile in (
        ("time to first token, median", "ttft_s", 0.5),
        ("time to first token, 99 %", "ttft_s", 0.99),
        ("between tokens, median", "gaps_s", 0.5),
        ("between tokens, 99 %", "gaps_s", 0.99),
    ):
        each = {side: [_quantile(r[side]["requests"], key, quantile) for r in rounds] for side in SIDES}
        latencies[label] = ratio_interval([a / b for a, b in zip(each["ours"], each["peer"], strict=True)])
        ours, peer = (1e3 * statistics.median(each[side]) for side in SIDES)
        result.add(f"{name}  {label}", f"ours {ours:.1f} ms, peer {peer:.1f} ms, ratio {latencies[label]}")
    for side in SIDES:
        busy = sum(r[side]["cpu_s"] for r in rounds) / sum(r[side]["seconds"] for r in rounds)
        result.add(f"{name}  client's share of a core, {side}", f"{busy:.1%}")
    n_same = sum(a["text"] == b["text"] for a, b in zip(requests["ours"], requests["peer"], strict=True))
    result.add(f"{name}  same text", f"{n_same} of {len(requests['ours'])}")
    measured = f"{ratio.mean:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    result.judge(
        f"tokens/s ours/peer, {name.strip()}",
        f"lower 95 % bound ≥ {MIN_RATIO}, median ≥ {MIN_MEDIAN_RATIO}",
        f"{measured}, median {ratio.median:.3f}",
        ratio.low >= MIN_RATIO and ratio.median >= MIN_MEDIAN_RATIO,
    )
    for label in ("time to first token, median", "between tokens, 99 %"):
        found = latencies[label]
        result.judge(
            f"{label}, ours/peer, {name.strip()}",
            f"median of the rounds ≤ {MAX_LATENCY_RATIO}",
            f"{found.median:.3f} [{found.low:.3f}, {found.high:.3f}]",
            found.median <= MAX_LATENCY_RATIO,
        )
    counts = {side: sorted({q["n_tokens"] for q in requests[side]}) for side in SIDES}
    result.judge(
        f"all tokens came, {name.strip()}",
        f"{n_tokens} a request",
        counts,
        {n for side in SIDES for n in counts[side]} == {n_tokens},
    )
    result.raw[str(n_clients)] = {"rounds": rounds, "ratio": ratio.as_dict(), "n_requests": len(requests["ours"])}


def _quantile(requests: list[dict[str, Any]], key: str, quantile: float) -> float:
    """Return a quantile of a round's times: one of each request, or many."""
    return float(np.quantile(np.concatenate([np.atleast_1d(q[key]) for q in requests]), quantile))


def run_chat(load: Load, ports: Ports, args: argparse.Namespace) -> PartResult:
    result = PartResult(f"(chat) {args.chats} conversations of {args.turns} turns, answers of {args.tokens} tokens")
    rng = np.random.default_rng(args.seed + 1)
    turns: list[dict[str, Any]] = []
    for index in range(args.chats + 1):
        history: dict[str, list[dict[str, str]]] = {side: [] for side in SIDES}
        for turn in range(args.turns):
            asked = story(rng, 3)
            for side in in_turns(index + turn):
                history[side] += asked
                (answer,) = load.run(ports[side], [[body(history[side], args.tokens)]])["requests"]
                history[side].append({"role": "assistant", "content": answer["text"]})
                turns.append({"chat": index, "turn": turn, "side": side, **answer})
    # The first conversation is the warm-up.
    turns = [t for t in turns if t["chat"]]
    later = {side: [t["ttft_s"] for t in turns if t["side"] == side and t["turn"]] for side in SIDES}
    ratio = ratio_interval([a / b for a, b in zip(later["ours"], later["peer"], strict=True)])
    for side in SIDES:
        median, low, high = (1e3 * value for value in median_interval(later[side]))
        result.add(f"first token of later turns, {side}", f"median {median:.1f} ms [{low:.1f}, {high:.1f}]")
    result.add("first token of later turns, ours/peer", ratio)
    last = [t for t in turns if t["turn"] == args.turns - 1]
    for side in SIDES:
        mine = [t for t in last if t["side"] == side]
        times = ", ".join(f"{1e3 * t['ttft_s']:.0f} ms" for t in mine)
        result.add(f"last turn, {side}", f"{times} ({mine[0]['n_prompt']} prompt tokens, {mine[0]['n_cached']} reused)")
    reused = [t["n_cached"] / t["n_prompt"] for t in turns if t["side"] == "ours" and t["turn"]]
    result.judge(
        "first token of later turns, ours/peer",
        "median ≤ 1",
        f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]",
        ratio.median <= 1,
    )
    result.judge("later turns reuse their prompt", "≥ 50 % each", f"{min(reused):.0%}", min(reused) >= 0.5)
    result.raw |= {"turns": turns, "ratio": ratio.as_dict()}
    return result


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)


PARTS = {"load": run_load, "chat": run_chat}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--model", help="a GGUF file, or a name that the store knows; default: the demo model")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--rounds", type=int, default=10, help="that count, for each number of clients")
    parser.add_argument("--requests", type=int, default=2, help="of each client in a round, one after the other")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--chats", type=int, default=4)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="a few requests, to see that it works; proves nothing")
    parser.add_argument("--json", type=Path, help="write all raw numbers here")
    parser.add_argument("--n-ctx", type=int, default=16384)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--kv-type", choices=["f16", "q8_0"], default="f16")
    parser.add_argument("--spec", choices=["off", "auto"], default="off", help="ours alone; the peer's is off")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.quick:
        args.clients, args.rounds, args.requests, args.tokens, args.chats, args.turns = [1, 2], 2, 1, 8, 1, 3
    return args


def main() -> int:
    args = parse_args()
    settings = Settings(
        path=resolve(args.model),
        n_ctx=args.n_ctx,
        n_slots=args.slots,
        n_threads=args.threads,
        kv_type=args.kv_type,
        n_batch=2048,
        n_ubatch=512,
        seed=args.seed,
        worker=True,
        streams=tuple(args.clients),
    )
    shown = ", ".join(f"{k} {v}" for k, v in asdict(settings).items() if k not in ("path", "worker"))
    facts = introduce(settings.path, settings=shown)
    results: dict[str, PartResult] = {}
    with OurServer(settings, ["--spec", args.spec]) as ours, Peer(settings, reuse=True) as peer, Load() as load:
        for part in args.part:
            results[part] = PARTS[part](load, {"ours": ours.port, "peer": peer.port}, args)
            results[part].print()
            write_parts(args.json, facts, results)
    return count_claims(results.values())


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
