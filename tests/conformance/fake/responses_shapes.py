"""OpenAI's responses: to a chat request and back."""

from __future__ import annotations

import secrets
import time
from typing import Any

from tests.conformance.fake.model import MODEL, Answer

Json = dict[str, Any]


def to_chat(body: Json, history: list[Json]) -> Json:
    """Return the chat request that means the same."""
    orders = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    value = body["input"]
    items = [{"role": "user", "content": value}] if isinstance(value, str) else [_message(item) for item in value]
    form = (body.get("text") or {}).get("format")
    return {
        "model": body.get("model"),
        "messages": [*orders, *history, *items],
        "max_tokens": body.get("max_output_tokens"),
        "temperature": body.get("temperature"),
        "tools": [{"type": "function", "function": tool} for tool in body.get("tools") or []],
        "tool_choice": body.get("tool_choice"),
        "response_format": {"type": "json_schema", "json_schema": form} if form else None,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def _message(item: Json) -> Json:
    if item.get("type") == "function_call_output":
        return {"role": "tool", "content": item["output"]}
    content = item["content"]
    if isinstance(content, list):
        content = [{"type": "text", "text": part["text"]} for part in content]
    return {"role": item["role"], "content": content}


def response_body(answer: Answer, body: Json) -> Json:
    """Return a whole response."""
    [choice] = answer.choices
    usage = answer.usage
    is_cut = choice.finish_reason == "length"
    return {
        "id": f"resp_{secrets.token_hex(8)}",
        "object": "response",
        "created_at": int(time.time()),
        "model": MODEL,
        "status": "incomplete" if is_cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "previous_response_id": body.get("previous_response_id"),
        "error": None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "parallel_tool_calls": True,
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "output": _items(answer),
        "usage": {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "total_tokens": usage["total_tokens"],
            "input_tokens_details": usage["prompt_tokens_details"],
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _items(answer: Answer) -> list[Json]:
    [choice] = answer.choices
    if choice.calls:
        return [
            {
                "type": "function_call",
                "id": f"fc_{call['id']}",
                "call_id": call["id"],
                "name": call["name"],
                "arguments": b"".join(call["pieces"]).decode(),
                "status": "completed",
            }
            for call in choice.calls
        ]
    part = {"type": "output_text", "text": "".join(choice.texts), "annotations": []}
    return [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}]


def response_events(answer: Answer, whole: Json) -> list[Json]:
    """Return the events of a streamed one."""
    [choice] = answer.choices
    started = {**whole, "output": [], "status": "in_progress", "usage": None}
    events: list[Json] = [{"type": "response.created", "response": started}]
    for index, item in enumerate(whole["output"]):
        events.append({"type": "response.output_item.added", "output_index": index, "item": {**item, **_empty(item)}})
        where = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            name = "response.function_call_arguments"
            events += [{"type": f"{name}.delta", "delta": p.decode(), **where} for p in choice.calls[index]["pieces"]]
            events.append({"type": f"{name}.done", "arguments": item["arguments"], "name": item["name"], **where})
        else:
            part = item["content"][0]
            where["content_index"] = 0
            events.append({"type": "response.content_part.added", "part": {**part, "text": ""}, **where})
            name = "response.output_text"
            events += [{"type": f"{name}.delta", "delta": t, "logprobs": [], **where} for t in choice.texts if t]
            events.append({"type": f"{name}.done", "text": part["text"], "logprobs": [], **where})
            events.append({"type": "response.content_part.done", "part": part, **where})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": f"response.{whole['status']}", "response": whole})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def _empty(item: Json) -> Json:
    return {"arguments": ""} if item["type"] == "function_call" else {"content": []}
