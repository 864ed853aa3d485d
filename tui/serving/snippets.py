"""What one pastes into a program so that it uses the server."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

KEY_VARIABLE = "OPENAI_API_KEY"
NO_KEY = "none"
"""Clients want a key also where the server does not."""


@dataclass(frozen=True)
class Snippet:
    """A few lines of a language."""

    title: str
    text: str


def snippets(url: str, model: str, *, has_key: bool) -> tuple[Snippet, ...]:
    """Return them. A key is named, never written out: what is pasted ends in repositories.

    Args:
        url: without /v1.
        model: its name there.
        has_key: whether the server wants one.
    """
    base = f"{url}/v1"
    return (
        Snippet("environment", _environment(base, has_key=has_key)),
        Snippet("curl", _curl(base, model, has_key=has_key)),
        Snippet("Python", _python(base, model, has_key=has_key)),
        Snippet("JavaScript", _javascript(base, model, has_key=has_key)),
    )


def _environment(base: str, *, has_key: bool) -> str:
    key = "the key" if has_key else NO_KEY
    return f"export OPENAI_BASE_URL={shlex.quote(base)}\nexport {KEY_VARIABLE}={shlex.quote(key)}"


def _curl(base: str, model: str, *, has_key: bool) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello!"}]}, ensure_ascii=False)
    key = f' \\\n  -H "Authorization: Bearer ${KEY_VARIABLE}"' if has_key else ""
    return (
        f"curl {shlex.quote(f'{base}/chat/completions')} \\\n"
        f"  -H 'Content-Type: application/json'{key} \\\n  -d {shlex.quote(body)}"
    )


def _python(base: str, model: str, *, has_key: bool) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]' if has_key else f'"{NO_KEY}"'
    head = "import os\n\n" if has_key else ""
    return (
        f"{head}from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={json.dumps(base)}, api_key={key})\n"
        "answer = client.chat.completions.create(\n"
        f"    model={json.dumps(model)},\n"
        '    messages=[{"role": "user", "content": "Hello!"}],\n'
        ")\nprint(answer.choices[0].message.content)"
    )


def _javascript(base: str, model: str, *, has_key: bool) -> str:
    key = f"process.env.{KEY_VARIABLE}" if has_key else f'"{NO_KEY}"'
    return (
        'import OpenAI from "openai";\n\n'
        f"const client = new OpenAI({{ baseURL: {json.dumps(base)}, apiKey: {key} }});\n"
        "const answer = await client.chat.completions.create({\n"
        f"  model: {json.dumps(model)},\n"
        '  messages: [{ role: "user", content: "Hello!" }],\n'
        "});\nconsole.log(answer.choices[0].message.content);"
    )
