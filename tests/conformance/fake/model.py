"""What the scripted model answers to a chat request."""

from __future__ import annotations

import json
import random
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.fake.words import Vocabulary, pieces, whole_texts

Json = dict[str, Any]

N_CTX = 2000
MODEL = "scripted"
_ROLES = {"system", "developer", "user", "assistant", "tool"}
_HEADER = re.compile(r"^x-anthropic-billing-header:[^\n]*\n?")
_PATTERNS = {"^[A-Z]{3}-[0-9]{4}$": "ABC-1234"}
_CANNOT_HOLD = {"not", "multipleOf", "uniqueItems"}
_GREETING = "Hello there, how are you today? I am glad to meet you. "
_THOUGHT = "They greet me, so I greet them back."


class ApiError(Exception):
    """An error that the API answers with."""

    def __init__(self, status: int, message: str, code: str = "invalid_request", param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param


@dataclass
class Completion:
    """One choice of an answer."""

    tokens: list[bytes]
    finish_reason: str
    thought: list[bytes] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        return whole_texts(self.tokens)

    @property
    def n_tokens(self) -> int:
        return len(self.tokens) + len(self.thought) + sum(len(call["pieces"]) for call in self.calls)


@dataclass
class Answer:
    """All choices, and what they cost."""

    choices: list[Completion]
    n_prompt: int
    n_cached: int
    is_endless: bool

    @property
    def usage(self) -> Json:
        completion = sum(choice.n_tokens for choice in self.choices)
        return {
            "prompt_tokens": self.n_prompt,
            "completion_tokens": completion,
            "total_tokens": self.n_prompt + completion,
            "prompt_tokens_details": {"cached_tokens": self.n_cached},
        }


class ScriptedModel:
    """Answers chat requests; remembers prompts, as a prefix cache does."""

    def __init__(self, *, thinks: bool = False) -> None:
        self.thinks = thinks
        self.vocabulary = Vocabulary()
        self._kept: list[list[bytes]] = []

    def answer(self, body: Json) -> Answer:
        """Return the answer to a chat request.

        Raises:
            ApiError: it is refused.
        """
        check_chat(body)
        return self.complete(self.prompt(body), body)

    def prompt(self, body: Json) -> list[bytes]:
        """Return the tokens of a conversation."""
        tools = json.dumps(body["tools"]) if body.get("tools") else ""
        return pieces(tools + "".join(_rendered(message) for message in body["messages"]) + "<|assistant|>")

    def complete(self, prompt: list[bytes], body: Json) -> Answer:
        if len(prompt) >= N_CTX:
            message = f"The prompt has {len(prompt)} tokens, and the context {N_CTX}."
            raise ApiError(400, message, "context_length_exceeded")
        n_cached = max((_n_common(prompt, kept) for kept in self._kept), default=0)
        choices = [self._choice(body, index) for index in range(body.get("n") or 1)]
        self._kept.append(prompt + choices[0].tokens)
        is_endless = max((bias for bias in (body.get("logit_bias") or {}).values()), default=0) > 0
        return Answer(choices, len(prompt), min(n_cached, len(prompt) - 1), is_endless)

    def _choice(self, body: Json, index: int) -> Completion:
        seed = body.get("seed")
        rng = random.Random(secrets.token_bytes(8) if seed is None else seed + index)
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 400
        thought = pieces(_THOUGHT) if self._is_thinking(body) else []
        calls = _calls(body)
        tokens = [] if calls else self._tokens(body, limit, rng)
        tokens, is_stopped = _stopped(tokens, body.get("stop"))
        for call in calls:
            call["pieces"] = call["pieces"][:limit]
        is_cut = len(thought) + len(tokens) >= limit and not is_stopped
        is_cut = is_cut or any(len(call["pieces"]) >= limit for call in calls)
        reason = "length" if is_cut else "tool_calls" if calls else "stop"
        return Completion(tokens[: max(limit - len(thought), 0)], reason, thought[:limit], calls)

    def _is_thinking(self, body: Json) -> bool:
        wanted = (body.get("chat_template_kwargs") or {}).get("enable_thinking")
        effort = body.get("reasoning_effort")
        return self.thinks and wanted is not False and effort != "none"

    def _tokens(self, body: Json, limit: int, rng: random.Random) -> list[bytes]:
        form = body.get("response_format") or {}
        if form.get("type") == "json_object":
            return pieces('{"colour": "teal"}')
        if form.get("type") == "json_schema":
            schema = (form.get("json_schema") or {}).get("schema")
            return pieces(json.dumps(instance(schema, schema), ensure_ascii=False))
        bias = {int(token): value for token, value in (body.get("logit_bias") or {}).items()}
        forced = [token for token, value in bias.items() if value > 0]
        is_wild = (body.get("temperature") or 0) > 0.5
        if forced:
            chosen = [rng.choice(forced) if is_wild else forced[0] for _ in range(limit)]
            found = [self.vocabulary.piece(token) for token in chosen]
            return found[:45] + [b" rest"] * (limit - 45) if body.get("frequency_penalty") else found
        if is_wild:
            return [b" " + rng.randbytes(2).hex()[:3].encode() for _ in range(limit)]
        banned = {self.vocabulary.piece(token) for token, value in bias.items() if value < 0}
        return [b"other" if token in banned else token for token in _script(body)]


def check_chat(body: Json) -> None:
    """Raise ApiError for a chat request that makes no sense."""
    if body.get("model") not in (None, MODEL):
        raise ApiError(404, f"There is no model {body['model']}.", "model_not_found")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise ApiError(400, "messages must be a list of messages.", param="messages")
    for message in messages:
        if message.get("role") not in _ROLES:
            raise ApiError(400, "There is no such role.", param="messages")
        if isinstance(message.get("content"), list) and any(p["type"] != "text" for p in message["content"]):
            raise ApiError(400, "This model reads no pictures.", param="messages")
    _check_types(body)
    _check_tools(body)


def _check_types(body: Json) -> None:
    kinds: dict[str, Any] = {
        "temperature": int | float,
        "max_tokens": int,
        "stop": str | list,
        "tools": list,
        "n": int,
        "response_format": dict,
    }
    for name, kind in kinds.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise ApiError(400, f"{name} has the wrong type.", param=name)
    if body.get("n") == 0 or (body.get("top_logprobs") or 0) > 20:
        raise ApiError(400, "n or top_logprobs is out of bounds.")
    form = body.get("response_format") or {}
    if form.get("type") not in (None, "text", "json_object", "json_schema"):
        raise ApiError(400, "There is no such format.", param="response_format")


def _check_tools(body: Json) -> None:
    choice = body.get("tool_choice")
    names = [tool["function"]["name"] for tool in body.get("tools") or []]
    if isinstance(choice, dict) and choice["function"]["name"] not in names:
        raise ApiError(400, "There is no such function.", param="tool_choice")
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise ApiError(400, "There is no such choice.", param="tool_choice")


def instance(schema: Any, root: Any) -> Any:
    """Return a value that obeys a schema.

    Raises:
        ApiError: there is none, or the schema is not understood.
    """
    if not isinstance(schema, dict) or _CANNOT_HOLD & set(schema):
        raise ApiError(400, "The schema cannot be honoured.", "invalid_schema")
    if "$ref" in schema:
        return instance((root.get("$defs") or {}).get(schema["$ref"].rpartition("/")[2]), root)
    if "const" in schema or "enum" in schema:
        return schema.get("const", (schema.get("enum") or [None])[0])
    if "anyOf" in schema:
        return instance(schema["anyOf"][0], root)
    match schema.get("type"):
        case "object":
            return {name: instance(value, root) for name, value in schema.get("properties", {}).items()}
        case "array":
            return [instance(schema["items"], root)] * schema.get("minItems", 1)
        case "string":
            return _PATTERNS.get(schema.get("pattern", ""), "x" * schema.get("minLength", 3))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
    raise ApiError(400, "The schema has a type that there is not.", "invalid_schema")


def _calls(body: Json) -> list[Json]:
    tools = [tool["function"] for tool in body.get("tools") or []]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        tools = [tool for tool in tools if tool["name"] == choice["function"]["name"]]
    elif choice != "required":
        return []
    tool = tools[0]
    arguments = json.dumps(instance(tool.get("parameters") or {"type": "object"}, {}))
    n_calls = 2 if body.get("parallel_tool_calls") else 1
    return [
        {"id": f"call_{secrets.token_hex(4)}", "name": tool["name"], "pieces": pieces(arguments)}
        for _ in range(n_calls)
    ]


def _stopped(tokens: list[bytes], stop: Any) -> tuple[list[bytes], bool]:
    """Return the tokens before the first stop string, and whether there is one."""
    text = b"".join(tokens)
    found = [text.find(s.encode()) for s in ([stop] if isinstance(stop, str) else stop or [])]
    ends = [end for end in found if end >= 0]
    return (pieces(text[: min(ends)].decode()), True) if ends else (tokens, False)


def _script(body: Json) -> list[bytes]:
    messages = body.get("messages") or [{"content": "count"}]
    if "count" in str(messages[-1].get("content")).lower():
        return pieces(", ".join(str(number) for number in range(1, 200)))
    return pieces(_GREETING)


def _rendered(message: Json) -> str:
    content = message.get("content") or ""
    text = "".join(part["text"] for part in content) if isinstance(content, list) else content
    if message["role"] == "system":
        text = _HEADER.sub("", text) if isinstance(content, str) else "".join(
            part["text"] for part in content if not _HEADER.match(part["text"])
        )  # fmt: skip
    calls = json.dumps(message["tool_calls"]) if message.get("tool_calls") else ""
    return f"<|{message['role']}|>{text}{calls}\n"


def _n_common(one: list[bytes], other: list[bytes]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
