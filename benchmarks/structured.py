"""Ask for answers that fit JSON schemas, and check each: python benchmarks/structured.py [--schemas 200] [--suite DIR]

Needs `pip install localllm[demo,server,test]`. `localllm serve` runs in a process of its own; some clients send one
schema each, with a temperature, and validate what comes back with the `jsonschema` library, formats included.

A schema counts as honoured if the server answered 200 and the answer, where it finished, is valid; as refused if it
answered 400. Nothing else may happen. Answers that ran into the token limit are counted and not judged. Generated
schemas must all be honoured, unsupported ones all refused (`schemas.py`). With --suite, the schemas of a folder of the
JSON-Schema-Test-Suite (such as tests/draft2020-12 in the `jsonschema` source package) are asked for as well: some of
them must be refused, none may be passed over in silence.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from our_server import OurServer
from ours import Settings
from report import PartResult, introduce
from schemas import UNSUPPORTED, Schema, generate

from localllm.hardware.cpu import n_compute_threads
from localllm.store import resolve


@dataclass
class Answered:
    """What became of one schema."""

    schema: Any
    status: int
    finish: str = ""
    text: str = ""
    error: str = ""
    """Why the answer is wrong; empty where nothing is."""

    @property
    def outcome(self) -> str:
        if self.error:
            return "wrong"
        if self.status != 200:
            return "refused" if self.status == 400 else "failed"
        return "valid" if self.finish == "stop" else "unfinished"


async def ask(client: httpx.AsyncClient, schema: Any, index: int, max_tokens: int) -> Answered:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    body = {
        "messages": [{"role": "user", "content": f"Give example number {index} of the data, as JSON."}],
        "max_tokens": max_tokens,
        "temperature": 0.8,
        "seed": index,
        "response_format": form,
    }
    response = await client.post("/v1/chat/completions", json=body)
    if response.status_code != 200:
        return Answered(schema, response.status_code, text=response.text[:300])
    choice = response.json()["choices"][0]
    answered = Answered(schema, 200, choice["finish_reason"], choice["message"]["content"] or "")
    if answered.finish == "stop":
        answered.error = why_invalid(answered.text, schema)
    elif answered.finish != "length":
        answered.error = f"finish reason {answered.finish}"
    return answered


def why_invalid(text: str, schema: Any) -> str:
    """Return why a text is not JSON that fits the schema; empty if it fits."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    try:
        kind(schema, format_checker=kind.FORMAT_CHECKER).validate(json.loads(text))
    except (ValueError, jsonschema.ValidationError) as error:
        return str(error).splitlines()[0]
    return ""


async def ask_all(url: str, schemas: list[Any], args: argparse.Namespace) -> list[Answered]:
    gate = asyncio.Semaphore(args.clients)
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:

        async def one(index: int, schema: Any) -> Answered:
            async with gate:
                return await ask(client, schema, index, args.tokens)

        return list(await asyncio.gather(*(one(i, s) for i, s in enumerate(schemas))))


def suite_schemas(folder: Path) -> list[Any]:
    return [group["schema"] for file in sorted(folder.glob("*.json")) for group in json.loads(file.read_text())]


def judge(result: PartResult, name: str, answers: list[Answered], allowed: set[str]) -> None:
    counts = Counter(answer.outcome for answer in answers)
    result.add(name, ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())))
    for answer in answers:
        if answer.outcome not in allowed:
            schema = json.dumps(answer.schema, ensure_ascii=False)[:200]
            detail = f"{answer.status} {answer.error} {answer.text[:160]!r}"
            result.add(f"  {answer.outcome}", f"{schema}: {detail}")
    others = sum(n for outcome, n in counts.items() if outcome not in allowed)
    result.judge(f"{name} ({len(answers)})", " or ".join(sorted(allowed)), f"{others} others", others == 0)
    result.raw[name] = [vars(answer) | {"outcome": answer.outcome} for answer in answers]


def run(url: str, args: argparse.Namespace) -> PartResult:
    result = PartResult(f"Structured output: temperature 0.8, at most {args.tokens} tokens, {args.clients} clients")
    generated: list[Schema] = generate(args.schemas, args.seed)
    for schema in generated:
        jsonschema.Draft202012Validator.check_schema(schema)
    judge(result, "generated schemas", asyncio.run(ask_all(url, generated, args)), {"valid", "unfinished"})
    judge(result, "unsupported schemas", asyncio.run(ask_all(url, UNSUPPORTED, args)), {"refused"})
    if args.suite is not None:
        answers = asyncio.run(ask_all(url, suite_schemas(args.suite), args))
        judge(result, "schemas of the suite", answers, {"valid", "unfinished", "refused"})
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.add_argument("--model", help="a GGUF file, or a name that the store knows; default: the demo model")
    parser.add_argument("--schemas", type=int, default=200)
    parser.add_argument("--suite", type=Path, help="a folder of the JSON-Schema-Test-Suite, besides")
    parser.add_argument("--tokens", type=int, default=400, help="of each answer, at most")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write all schemas and answers here")
    parser.add_argument("--threads", type=int, default=n_compute_threads())
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = Settings(resolve(args.model), 8192, 8, args.threads, "f16", 2048, 512, args.seed, worker=True)
    facts = introduce(settings.path)
    with OurServer(settings) as server:
        result = run(server.url, args)
    result.print()
    if args.json is not None:
        args.json.write_text(json.dumps({"machine": facts, "raw": result.raw}, indent=1, ensure_ascii=False) + "\n")
    return 0 if all(verdict.holds for verdict in result.verdicts) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
