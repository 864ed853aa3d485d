"""Answers in OpenAI's shapes: chat completions and completions."""

from __future__ import annotations

import secrets
import time
from typing import Any

from tests.conformance.fake.model import MODEL, Answer, Completion
from tests.conformance.fake.words import whole_texts

Json = dict[str, Any]


def chat_body(answer: Answer, body: Json) -> Json:
    """Return a whole chat completion."""
    return {
        **_head("chat.completion"),
        "choices": [_whole(choice, index, body) for index, choice in enumerate(answer.choices)],
        "usage": answer.usage,
    }


def chat_chunks(answer: Answer, body: Json) -> list[Json]:
    """Return the chunks of a streamed one."""
    head = _head("chat.completion.chunk")
    found = []
    for index, choice in enumerate(answer.choices):
        deltas = _deltas(choice)
        deltas[0][0] = {"role": "assistant", **deltas[0][0]}
        n_seen = 0
        for delta, n_tokens in deltas:
            logprobs = (
                {"content": _logprobs(choice, body)[n_seen : n_seen + n_tokens]} if body.get("logprobs") else None
            )
            n_seen += n_tokens
            found.append({**head, "choices": [_chunk_choice(index, delta, None, logprobs)]})
        found.append({**head, "choices": [_chunk_choice(index, {}, choice.finish_reason, None)]})
    if (body.get("stream_options") or {}).get("include_usage"):
        found.append({**head, "choices": [], "usage": answer.usage})
    return found


def _deltas(choice: Completion) -> list[list[Any]]:
    """Return deltas, each with the number of text tokens in it."""
    found: list[list[Any]] = [
        [{"reasoning_content": text, "reasoning": text}, 0] for text in whole_texts(choice.thought)
    ]
    n_held = 0
    for text in choice.texts:
        n_held += 1
        if text:
            found.append([{"content": text}, n_held])
            n_held = 0
    for index, call in enumerate(choice.calls):
        start = {
            "index": index,
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": ""},
        }
        found.append([{"tool_calls": [start]}, 0])
        arguments = [{"index": index, "function": {"arguments": piece.decode()}} for piece in call["pieces"]]
        found += [[{"tool_calls": [delta]}, 0] for delta in arguments]
    return found or [[{"content": ""}, 0]]


def _chunk_choice(index: int, delta: Json, reason: str | None, logprobs: Any) -> Json:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def _whole(choice: Completion, index: int, body: Json) -> Json:
    text = "".join(choice.texts)
    message: Json = {"role": "assistant", "content": None if choice.calls else text}
    if choice.thought:
        thought = b"".join(choice.thought).decode()
        message |= {"reasoning_content": thought, "reasoning": thought}
    if choice.calls:
        message["tool_calls"] = [
            {
                "id": c["id"],
                "type": "function",
                "function": {"name": c["name"], "arguments": b"".join(c["pieces"]).decode()},
            }
            for c in choice.calls
        ]
    logprobs = {"content": _logprobs(choice, body)} if body.get("logprobs") else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason}


def _logprobs(choice: Completion, body: Json) -> list[Json]:
    return [
        {
            **_candidate(token, -0.1 * (1 + i % 7)),
            "top_logprobs": [
                _candidate(token if rank == 0 else b"no", -0.1 * (1 + i % 7) - rank)
                for rank in range(body.get("top_logprobs") or 0)
            ],
        }
        for i, token in enumerate(choice.tokens)
    ]


def _candidate(token: bytes, logprob: float) -> Json:
    return {"token": token.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(token)}


def completion_body(answers: list[tuple[str, Answer]], body: Json) -> Json:
    """Return a whole completion; each answer comes with the prompt that it echoes."""
    choices = []
    for index, (echo, answer) in enumerate(answers):
        [choice] = answer.choices
        choices.append(
            {
                "index": index,
                "text": echo + "".join(choice.texts),
                "finish_reason": choice.finish_reason,
                "logprobs": _older_logprobs(choice) if body.get("logprobs") is not None else None,
            }
        )
    usages = [answer.usage for _, answer in answers]
    return {**_head("text_completion"), "choices": choices, "usage": usages[0]}


def completion_chunks(answer: Answer) -> list[Json]:
    head, [choice] = _head("text_completion"), answer.choices
    texts = [(text, None) for text in choice.texts if text] + [("", choice.finish_reason)]
    return [{**head, "choices": [{"index": 0, "text": text, "finish_reason": reason}]} for text, reason in texts]


def _older_logprobs(choice: Completion) -> Json:
    texts = choice.texts
    return {
        "tokens": texts,
        "token_logprobs": [-0.1] * len(texts),
        "top_logprobs": [{text: -0.1} for text in texts],
        "text_offset": [len("".join(texts[:i])) for i in range(len(texts))],
    }


def _head(kind: str) -> Json:
    return {"id": f"chatcmpl-{secrets.token_hex(8)}", "object": kind, "created": int(time.time()), "model": MODEL}
