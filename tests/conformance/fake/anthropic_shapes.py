"""Anthropic's messages: to a chat request and back."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.conformance.fake.model import MODEL, Answer, ApiError
from tests.conformance.fake.words import whole_texts

Json = dict[str, Any]

_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "stop": "end_turn"}


def to_chat(body: Json) -> Json:
    """Return the chat request that means the same."""
    if not isinstance(body.get("messages"), list) or not isinstance(body.get("max_tokens", 1), int):
        raise ApiError(400, "messages must be a list, max_tokens a number.")
    messages = [{"role": "system", "content": body["system"]}] if body.get("system") else []
    for message in body["messages"]:
        messages += _messages(message)
    thinking = (body.get("thinking") or {}).get("type") == "enabled"
    choice = body.get("tool_choice") or {}
    form = (body.get("output_config") or {}).get("format")
    named = {"type": "function", "function": {"name": choice.get("name")}}
    return {
        "model": body.get("model"),
        "messages": messages,
        "max_tokens": body.get("max_tokens"),
        "temperature": body.get("temperature"),
        "stop": body.get("stop_sequences"),
        "tools": [
            {"type": "function", "function": {"name": t["name"], "parameters": t["input_schema"]}}
            for t in body.get("tools") or []
        ],
        "tool_choice": {"any": "required", "none": "none", "tool": named}.get(choice.get("type", ""), "auto"),
        "response_format": {"type": "json_schema", "json_schema": form} if form else None,
        "chat_template_kwargs": {"enable_thinking": thinking},
    }


def _messages(message: Json) -> list[Json]:
    content = message["content"]
    if isinstance(content, str):
        return [message]
    found = []
    for block in content:
        match block["type"]:
            case "text":
                found.append({"role": message["role"], "content": block["text"]})
            case "tool_use":
                function = {"name": block["name"], "arguments": json.dumps(block["input"])}
                found.append({"role": "assistant", "tool_calls": [{"id": block["id"], "function": function}]})
            case "tool_result":
                found.append({"role": "tool", "content": block["content"]})
    return found


def message_body(answer: Answer, body: Json, stop: str | None) -> Json:
    """Return a whole message."""
    [choice] = answer.choices
    blocks: list[Json] = []
    if choice.thought:
        blocks.append({"type": "thinking", "thinking": b"".join(choice.thought).decode(), "signature": ""})
    if choice.tokens:
        blocks.append({"type": "text", "text": "".join(choice.texts)})
    for call in choice.calls:
        value = json.loads(b"".join(call["pieces"]))
        blocks.append({"type": "tool_use", "id": call["id"], "name": call["name"], "input": value})
    return {
        "id": f"msg_{secrets.token_hex(8)}",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": blocks,
        "stop_reason": "stop_sequence" if stop else _REASONS[choice.finish_reason],
        "stop_sequence": stop,
        "usage": {
            "input_tokens": answer.n_prompt - answer.n_cached,
            "cache_read_input_tokens": answer.n_cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": choice.n_tokens,
        },
    }


def message_events(answer: Answer, body: Json, stop: str | None) -> list[Json]:
    """Return the events of a streamed one."""
    whole, [choice] = message_body(answer, body, stop), answer.choices
    start = {**whole, "content": [], "stop_reason": None, "stop_sequence": None}
    events: list[Json] = [{"type": "message_start", "message": start}]
    for index, block in enumerate(whole["content"]):
        if block["type"] == "tool_use":
            pieces = [piece.decode() for piece in choice.calls[0]["pieces"]]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
            empty = {**block, "input": {}}
        else:
            tokens = whole_texts(choice.thought) if block["type"] == "thinking" else choice.texts
            deltas = [{"type": f"{block['type']}_delta", block["type"]: text} for text in tokens if text]
            empty = {**block, block["type"]: ""}
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": choice.n_tokens}})
    return [*events, {"type": "message_stop"}]
