"""Load the server for a long time and check every answer: python benchmarks/soak.py [--minutes 15] [--json OUT]

Needs `pip install localllm[demo,server,test]`. `localllm serve` runs in a process of its own. Clients send, at random:
short and long requests, streamed or not; some that hang up before or in the middle of an answer; tool calls; schemas of
several shapes; several completions at once; embeddings where the model has them; bad requests; requests whose answer is
known. All that can be checked is: a stream's shape, the number of tokens, arguments of calls and JSON against their
schemas, known answers against those that the server gave alone at the start, embeddings against the first ones. A known
answer is one whose every token was ahead of the next best by a clear margin, since sums of floats differ with the size
of a batch.

At the end nothing may run or wait, the KV cells in use are those of kept prefixes, and memory has not grown: the
resident memory of the server and of its worker is read every few seconds, and the second half of the time is compared
with the end of the first.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
from our_server import OurServer
from ours import Settings
from prompts import sentence
from report import PartResult, introduce

from localllm.hardware.cpu import n_compute_threads
from localllm.store import resolve

SAMPLE_S = 5.0
MIN_MARGIN = 0.5
"""Nats between a known answer's tokens and the next best."""
N_KNOWN = 12
MAX_GROWTH = 0.05
"""Of resident memory, from the end of the first half to the end."""

CHAT = "/v1/chat/completions"
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    {"enum": ["red", "green", "blue"]},
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 4},
    {
        "type": "object",
        "properties": {
            "kind": {"const": "box"},
            "sides": {"type": "array", "items": {"$ref": "#/$defs/length"}, "minItems": 3, "maxItems": 3},
        },
        "required": ["kind", "sides"],
        "additionalProperties": False,
        "$defs": {"length": {"type": "integer", "minimum": 1, "maximum": 99}},
    },
]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Say how the weather is.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
                "required": ["city", "unit"],
                "additionalProperties": False,
            },
        },
    }
]


@dataclass
class Soak:
    """The state of a run."""

    client: httpx.AsyncClient
    rng: np.random.Generator
    known: list[tuple[dict[str, Any], str]] = field(default_factory=list)
    vectors: dict[str, list[float]] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    latency_s: dict[str, list[float]] = field(default_factory=dict)
    n_tokens: int = 0

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.failures.append(what)
            print(f"  WRONG  {what}", flush=True)

    def prompt(self, n_sentences: int) -> list[dict[str, str]]:
        text = "".join(sentence(self.rng) for _ in range(n_sentences))
        return [{"role": "user", "content": f"{text}What happens next?"}]


async def post(soak: Soak, body: dict[str, Any], path: str = CHAT) -> dict[str, Any]:
    response = await soak.client.post(path, json=body)
    if response.status_code != 200:
        raise RuntimeError(f"{response.status_code} {response.text[:200]}")
    answer: dict[str, Any] = response.json()
    soak.n_tokens += answer.get("usage", {}).get("completion_tokens", 0)
    return answer


async def whole(soak: Soak) -> None:
    n_tokens = int(soak.rng.integers(4, 60))
    answer = await post(soak, {"messages": soak.prompt(2), "max_tokens": n_tokens, "ignore_eos": True})
    soak.check(answer["usage"]["completion_tokens"] == n_tokens, "a whole answer has another length")
    soak.check(answer["choices"][0]["finish_reason"] == "length", "a whole answer has another finish reason")


async def several(soak: Soak) -> None:
    answer = await post(soak, {"messages": soak.prompt(2), "max_tokens": 12, "n": 3, "seed": 1})
    soak.check([choice["index"] for choice in answer["choices"]] == [0, 1, 2], "not three completions")


async def streamed(soak: Soak, n_sentences: int = 2, max_tokens: int = 60) -> None:
    n_tokens = int(soak.rng.integers(4, max_tokens))
    body = {"messages": soak.prompt(n_sentences), "max_tokens": n_tokens, "ignore_eos": True, "stream": True}
    async with soak.client.stream("POST", CHAT, json=body | {"stream_options": {"include_usage": True}}) as response:
        lines = [line[6:] async for line in response.aiter_lines() if line.startswith("data: ")]
    soak.check(lines[-1] == "[DONE]", f"a stream ends with {lines[-1][:100]}")
    events = [json.loads(line) for line in lines[:-1]]
    soak.check(len({event["id"] for event in events}) == 1, "a stream has several ids")
    soak.check(events[0]["choices"][0]["delta"].get("role") == "assistant", "a stream begins without a role")
    soak.check(events[-1]["usage"]["completion_tokens"] == n_tokens, "a stream has another length")
    soak.n_tokens += n_tokens


async def long(soak: Soak) -> None:
    await streamed(soak, n_sentences=int(soak.rng.integers(20, 50)), max_tokens=200)


async def hang_up(soak: Soak) -> None:
    stream = bool(soak.rng.random() < 0.7)
    body = {"messages": soak.prompt(int(soak.rng.integers(1, 30))), "max_tokens": 400, "ignore_eos": True}

    async def read() -> None:
        async with soak.client.stream("POST", CHAT, json=body | {"stream": stream}) as response:
            async for _ in response.aiter_raw():
                pass

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(read(), float(soak.rng.random() * 2))


async def schema(soak: Soak) -> None:
    wanted = SCHEMAS[int(soak.rng.integers(len(SCHEMAS)))]
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": wanted}}
    answer = await post(soak, {"messages": soak.prompt(1), "max_tokens": 120, "response_format": form})
    choice = answer["choices"][0]
    if choice["finish_reason"] == "stop":
        soak.check(
            _fits(choice["message"]["content"], wanted), f"against its schema: {choice['message']['content'][:100]}"
        )
    else:
        soak.done["schema, unfinished"] += 1


async def tool(soak: Soak) -> None:
    body = {"messages": soak.prompt(1), "max_tokens": 120, "tools": TOOLS, "tool_choice": "required"}
    choice = (await post(soak, body))["choices"][0]
    if choice["finish_reason"] == "tool_calls":
        parameters = TOOLS[0]["function"]["parameters"]  # type: ignore[index]
        for call in choice["message"]["tool_calls"]:
            soak.check(call["function"]["name"] == "get_weather", f"a call of {call['function']['name']}")
            arguments = call["function"]["arguments"]
            soak.check(_fits(arguments, parameters), f"against its parameters: {arguments[:100]}")
    else:
        soak.check(choice["finish_reason"] == "length", f"no call, but {choice['finish_reason']}")
        soak.done["tool, unfinished"] += 1


async def known(soak: Soak) -> None:
    body, text = soak.known[int(soak.rng.integers(len(soak.known)))]
    answer = await post(soak, body)
    found = answer["choices"][0]["message"]["content"]
    soak.check(found == text, f"a known answer changed: {text!r} became {found!r}")


async def embedding(soak: Soak) -> None:
    text = list(soak.vectors)[int(soak.rng.integers(len(soak.vectors)))]
    vector = np.array(await _embed(soak, text))
    cosine = float(vector @ np.array(soak.vectors[text]))
    soak.check(cosine > 0.999, f"an embedding changed: cosine {cosine:.5f}")


async def bad(soak: Soak) -> None:
    wrong: list[dict[str, Any]] = [
        {"temperature": -1},
        {"model": "nobody"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}},
        {"messages": soak.prompt(3000)},
    ]
    body = {"messages": soak.prompt(1), "max_tokens": 4} | wrong[int(soak.rng.integers(len(wrong)))]
    response = await soak.client.post(CHAT, json=body)
    soak.check(response.status_code in (400, 404), f"a bad request is {response.status_code}")


WEIGHTS: dict[Callable[[Soak], Awaitable[None]], float] = {
    whole: 4, streamed: 4, long: 1, several: 1, hang_up: 3, schema: 3, tool: 2, known: 3, embedding: 1, bad: 1,
}  # fmt: skip


def _fits(text: str, wanted: dict[str, Any]) -> bool:
    try:
        jsonschema.Draft202012Validator(wanted).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


async def _embed(soak: Soak, text: str) -> list[float]:
    answer = await post(soak, {"input": text, "encoding_format": "float"}, "/v1/embeddings")
    vector: list[float] = answer["data"][0]["embedding"]
    return vector


async def learn(soak: Soak) -> None:
    """Ask alone what is asked again later: answers with a clear margin, and vectors."""
    for _ in range(40 * N_KNOWN):
        if len(soak.known) == N_KNOWN:
            break
        body = {"messages": soak.prompt(1), "max_tokens": 8, "temperature": 0, "logprobs": True, "top_logprobs": 2}
        choice = (await post(soak, body))["choices"][0]
        if all(_margin(token["top_logprobs"]) >= MIN_MARGIN for token in choice["logprobs"]["content"]):
            soak.known.append((body, choice["message"]["content"]))
    if not soak.known:
        raise RuntimeError("no answer has a clear margin")
    card = (await soak.client.get("/v1/models")).json()["data"][0]
    if "embedding" in (card["capabilities"] or ()):
        texts = [sentence(soak.rng) for _ in range(4)]
        soak.vectors = {text: await _embed(soak, text) for text in texts}


def _margin(top: list[dict[str, Any]]) -> float:
    return float(top[0]["logprob"] - top[1]["logprob"]) if len(top) > 1 else 0.0


async def one_client(soak: Soak, until_s: float) -> None:
    kinds = [kind for kind in WEIGHTS if kind is not embedding or soak.vectors]
    weights = np.array([WEIGHTS[kind] for kind in kinds], dtype=np.float64)
    while time.monotonic() < until_s:
        kind = kinds[int(soak.rng.choice(len(kinds), p=weights / weights.sum()))]
        name = kind.__name__  # type: ignore[attr-defined]
        started = time.monotonic()
        try:
            await kind(soak)
        except Exception as error:
            soak.check(False, f"{name}: {type(error).__name__} {error}")
            await asyncio.sleep(0.5)
        soak.done[name] += 1
        soak.latency_s.setdefault(name, []).append(time.monotonic() - started)


async def watch(soak: Soak, server: OurServer, until_s: float, samples: list[dict[str, float]]) -> None:
    """Read memory, and see that the server answers while it works."""
    started = time.monotonic()
    while time.monotonic() < until_s:
        asked = time.monotonic()
        response = await soak.client.get("/health")
        soak.check(response.status_code == 200, f"/health is {response.status_code}")
        front, worker = server.rss_bytes()
        samples.append(
            {"at_s": asked - started, "health_s": time.monotonic() - asked, "server": front, "worker": worker}
        )
        await asyncio.sleep(SAMPLE_S)


async def metrics(soak: Soak) -> dict[str, float]:
    text = (await soak.client.get("/metrics")).text
    names = (
        "requests_running",
        "requests_waiting",
        "requests_admitted",
        "kv_cells_used",
        "kv_cells_idle",
        "model_crashes_total",
    )
    found = {name: re.findall(rf"^localllm_{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE) for name in names}
    return {name: sum(map(float, values)) for name, values in found.items()}


async def run(server: OurServer, args: argparse.Namespace) -> PartResult:
    result = PartResult(f"Soak: {args.minutes:g} minutes, {args.clients} clients")
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=args.clients)
    async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=limits) as client:
        soak = Soak(client, np.random.default_rng(args.seed))
        await learn(soak)
        until_s = time.monotonic() + 60 * args.minutes
        samples: list[dict[str, float]] = []
        started = time.monotonic()
        await asyncio.gather(
            watch(soak, server, until_s, samples), *(one_client(soak, until_s) for _ in range(args.clients))
        )
        seconds = time.monotonic() - started
        await asyncio.sleep(2)
        report(result, soak, samples, await metrics(soak), seconds)
    return result


def report(
    result: PartResult, soak: Soak, samples: list[dict[str, float]], last: dict[str, float], seconds: float
) -> None:
    for name, count in sorted(soak.done.items()):
        times = sorted(soak.latency_s.get(name, []))
        more = f", median {statistics.median(times):.2f} s, longest {times[-1]:.2f} s" if times else ""
        result.add(name, f"{count}{more}")
    n_requests = sum(len(times) for times in soak.latency_s.values())
    result.add("all requests", f"{n_requests}, {n_requests / seconds:.1f} a second, {soak.n_tokens} tokens")
    result.judge("every answer is right", "0 wrong", len(soak.failures), not soak.failures)
    slowest = max(s["health_s"] for s in samples)
    result.judge("/health answers under load", "within 1 s", f"{slowest:.3f} s at most", slowest < 1)
    for part in ("server", "worker"):
        sizes = [s[part] / 2**20 for s in samples]
        middle, end = (statistics.median(sizes[-len(sizes) // n :][: max(len(sizes) // 10, 1)]) for n in (2, 10))
        growth = end / middle - 1
        result.add(f"memory of the {part}", f"{sizes[0]:.0f} MiB first, {max(sizes):.0f} most, {end:.0f} last")
        result.judge(
            f"memory of the {part} does not grow", f"≤ {MAX_GROWTH:.0%}", f"{growth:+.1%}", growth <= MAX_GROWTH
        )
    idle = last["requests_running"] + last["requests_waiting"] + last["requests_admitted"]
    result.judge("nothing runs or waits at the end", "0", idle, idle == 0)
    held = last["kv_cells_used"] - last["kv_cells_idle"]
    result.judge("cells in use at the end are kept prefixes'", "0 others", held, held == 0)
    result.judge("no worker ended", "0", last["model_crashes_total"], last["model_crashes_total"] == 0)
    result.raw |= {"samples": samples, "failures": soak.failures, "latency_s": soak.latency_s, "metrics": last}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--model", help="a GGUF file, or a name that the store knows; default: the demo model")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write all raw numbers here")
    parser.add_argument("--n-ctx", type=int, default=8192)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--kv-type", choices=["f16", "q8_0"], default="f16")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = Settings(
        resolve(args.model), args.n_ctx, args.slots, args.threads, args.kv_type, 2048, 512, args.seed, worker=True
    )
    facts = introduce(settings.path)
    with OurServer(settings) as server:
        result = asyncio.run(run(server, args))
    result.print()
    if args.json is not None:
        parts = {"title": result.title, "rows": result.rows, "verdicts": [str(v) for v in result.verdicts]}
        args.json.write_text(json.dumps({"machine": facts, **parts, "raw": result.raw}, indent=1, default=str) + "\n")
    return 0 if all(verdict.holds for verdict in result.verdicts) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
