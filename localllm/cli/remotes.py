"""`localllm remote`: engines on other machines, by names of one's own."""

from __future__ import annotations

import json
from typing import Any

import click

from localllm.cli.screen import notice
from localllm.cli.tables import table
from localllm.errors import RequestError
from localllm.printable import harmless

_PROMPT = "Count from one to twenty, in words."
_N_TOKENS = 32


@click.group("remote", short_help="Name engines on other machines, to use them like models here.")
def command() -> None:
    """Name engines on other machines, to use them like models here: any that speaks OpenAI's API.

    vLLM, SGLang, TensorRT-LLM, TGI, llama-server, another localllm. A remote's model is called @NAME, or @NAME/MODEL
    where it has several.

    \b
    localllm remote add lab http://192.168.1.5:8000
    localllm remote check lab
    localllm chat @lab
    """


@command.command("add", short_help="Name an engine.")
@click.argument("name")
@click.argument("url")
@click.option("--key", metavar="KEY", help="The key that it wants; kept in a file that only you can read.")
@click.option("--key-env", metavar="VAR", help="The environment variable that holds the key, which is then not kept.")
@click.option("--model", metavar="MODEL", help="The model that @NAME means, where it has several.")
@click.option(
    "--silence", "silence_s", metavar="SECONDS", type=click.FloatRange(0.1, 1e5),
    help="The longest silence in an answer; then it counts as dead. 60 if not said.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the remote of this name.")
def add(
    name: str,
    url: str,
    key: str | None,
    key_env: str | None,
    model: str | None,
    silence_s: float | None,
    force: bool,
) -> None:
    """Name an engine. Nothing is asked of it yet: see `localllm remote check`."""
    from localllm.remotes.address import is_private, root_of
    from localllm.remotes.registry import SILENCE_S, Remote, Remotes, checked_name

    if key is not None and key_env is not None:
        raise RequestError("--key and --key-env exclude each other.", hint="Give one of them.")
    for flag, value in (("--key", key), ("--key-env", key_env), ("--model", model)):
        if value is not None and not (value and value.isascii() and value.isprintable()):
            raise RequestError(f"{flag} must be of printable characters.", hint="Check what was pasted.")
    remote = Remote(checked_name(name), root_of(url), key, key_env, model, silence_s or SILENCE_S)
    remotes = Remotes()
    remotes.add(remote, replace=force)
    notice(f"Added {name}: {remote.root_url}, in {remotes.file}")
    if (key or key_env) and not is_private(remote.root_url):
        notice("Its key will travel unencrypted, since the address is not https://.")


@command.command("list", short_help="List the engines.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list_remotes(as_json: bool) -> None:
    """List the engines that were named. Keys are not shown."""
    from localllm.remotes.registry import Remote, Remotes

    found = list(Remotes().all().values())

    def facts(remote: Remote) -> dict[str, Any]:
        key = f"${remote.key_env}" if remote.key_env else "kept" if remote.key else None
        return {
            "name": remote.name,
            "url": remote.root_url,
            "model": remote.model,
            "key": key,
            "silence_s": remote.silence_s,
        }

    if as_json:
        click.echo(json.dumps([facts(remote) for remote in found], ensure_ascii=False))
    elif not found:
        notice("There is none. Add one: localllm remote add NAME URL")
    else:
        rows = [(f"@{one['name']}", one["url"], one["model"] or "", one["key"] or "") for one in map(facts, found)]
        for line in table([("name", "address", "model", "key"), *rows]):
            click.echo(harmless(line))


@command.command("rm", short_help="Forget an engine.")
@click.argument("name")
def remove(name: str) -> None:
    """Forget an engine. Nothing happens on its machine."""
    from localllm.remotes.registry import Remotes

    Remotes().remove(name.removeprefix("@"))
    notice(f"Removed {name}.")


@command.command("check", short_help="See whether an engine answers, what it has, and how fast it is.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(name: str, as_json: bool) -> None:
    """See whether an engine answers, what it is and has, and how fast it answers one short question."""
    from localllm.remotes import RemoteClient, Remotes

    client = RemoteClient(Remotes().find(name.removeprefix("@")))
    models = client.models()
    facts: dict[str, Any] = {
        "name": client.remote.name,
        "url": client.remote.root_url,
        "models": [{"id": card.id, "n_ctx": card.n_ctx or None} for card in models],
    }
    if not as_json:
        click.echo(f"{facts['name']} answers at {facts['url']}.")
        for card in models:
            context = f", context {card.n_ctx:,}" if card.n_ctx else ""
            click.echo(harmless(f"  @{facts['name']}/{card.id}{context}"))
    facts |= {"engine": client.engine.name, "version": client.version() or None, "model": client.card.id}
    if not as_json:
        click.echo(harmless(f"It is {facts['engine']} {facts['version'] or '(which does not tell its version)'}."))
    facts |= _speed(client)
    click.echo(json.dumps(facts, ensure_ascii=False) if as_json else _speed_line(facts))


def _speed(client: Any) -> dict[str, Any]:
    """Return how fast a short answer was."""
    from localllm.llm.remote import RemoteLLM

    done = RemoteLLM(client).ask(_PROMPT, max_tokens=_N_TOKENS, temperature=0.0)
    return {
        "ttft_s": done.timings.ttft_s,
        "decode_tok_s": done.timings.decode_tok_s,
        "prompt_tokens": done.usage.prompt_tokens,
        "completion_tokens": done.usage.completion_tokens,
    }


def _speed_line(facts: dict[str, Any]) -> str:
    return (
        f"An answer of {facts['completion_tokens']} tokens: the first after {facts['ttft_s']:.2f} s,"
        f" then {facts['decode_tok_s']:.1f} tok/s."
    )
