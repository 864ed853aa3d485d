"""`localllm run`: one prompt, one answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec

from localllm.cli.model import open_model
from localllm.cli.options import adapter_specs, generation_options, shared_options
from localllm.cli.status import StatusLine, speed_summary
from localllm.cli.terminal import TextOutput
from localllm.config import Settings, load_settings
from localllm.errors import RequestError, ServerError
from localllm.hub.refs import remote_ref
from localllm.llm import LLM, ChatEvent, Done, GenerateOptions, Progress, TextDelta, Waiting
from localllm.store import knows


@click.command("run", short_help="Answer one prompt.")
@click.argument("arguments", nargs=-1, metavar="[MODEL] [PROMPT]")
@shared_options
@click.option("--stop", metavar="TEXT", multiple=True, help="End the answer before this text; may be repeated.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the model's chat template.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: text, finish_reason, usage, timings.")
@click.option("--stats", "--verbose", is_flag=True, help="Print the speed on stderr, also where it is no terminal.")
def command(
    arguments: tuple[str, ...],
    schema_file: Path | None,
    lora: tuple[Path, ...],
    lora_scaled: tuple[tuple[Path, float], ...],
    stop: tuple[str, ...],
    raw: bool,
    as_json: bool,
    stats: bool,
    **flags: str | None,
) -> None:
    """Answer one prompt, on stdout.

    A single argument is the prompt, for the default model. Text piped to stdin goes before it, so that other
    questions about the same text need not compute it again; where it is all, a single argument may be the model.

    \b
    localllm run "Why is the sky blue?"
    localllm run model.gguf "Why is the sky blue?"
    localllm run @lab "Why is the sky blue?"
    git diff | localllm run "Explain this change."
    localllm run model.gguf < question.txt
    """
    model, prompt = model_and_prompt(arguments, piped_text())
    settings = load_settings({**flags, "model": model})
    if raw and flags["system"] is not None:
        raise RequestError("--raw and --system exclude each other.", hint="Write it into the prompt, or drop --raw.")
    options = generation_options(settings, schema_file, stop=list(stop))
    status = StatusLine()
    with open_model(settings, status, adapter_specs(lora, lora_scaled), in_process=True) as llm:
        stream = llm.generate(prompt, **options) if raw else _chat(llm, settings, prompt, options)
        said: list[str] = []
        try:
            done = _follow(stream, status, None if as_json else TextOutput(), said)
        except ServerError as error:
            if as_json and said:
                click.echo(json.dumps(half_answer_json("".join(said), error), ensure_ascii=False))
            raise
        if as_json:
            click.echo(json.dumps(answer_json(done, llm.info.load_s), ensure_ascii=False))
        if stats or sys.stderr.isatty():
            click.secho(speed_summary(done), dim=True, err=True)


def piped_text() -> str | None:
    """Return what is piped to stdin; None at a terminal, and where there is nothing but white space.

    Raises:
        RequestError: it is not UTF-8.
    """
    if sys.stdin is None or sys.stdin.isatty():
        return None
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"stdin is not UTF-8 text: {error}.", hint="Pipe text only.") from error
    return text.rstrip("\r\n") if text.strip() else None


def model_and_prompt(arguments: Sequence[str], piped: str | None) -> tuple[str | None, str]:
    """Tell the model from the prompt; a model of None is the default one.

    Raises:
        RequestError: there is no prompt.
        click.UsageError: there are more than two arguments.
    """
    if len(arguments) > 2:
        raise click.UsageError(f"{len(arguments)} arguments, 2 allowed; a prompt of several words needs quotes.")
    match tuple(arguments):
        case (model, prompt):
            return model, _joined(prompt, piped)
        case (model,) if _looks_like_a_model(model):
            if piped is None:
                raise RequestError(
                    f"There is no prompt for the model {model}.", hint=f'Write: localllm run {model} "your question"'
                )
            return model, piped
        case (prompt,):
            return None, _joined(prompt, piped)
    if piped is None:
        raise RequestError("There is no prompt.", hint='Write: localllm run "your question"')
    return None, piped


def answer_json(done: Done, load_s: float) -> dict[str, Any]:
    """Return the object that --json prints; seconds, and tokens a second."""
    usage, timings = done.usage, done.timings
    return {
        "text": done.text,
        "finish_reason": done.finish_reason,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cached_tokens": usage.cached_tokens,
            "evicted_tokens": usage.evicted_tokens,
            "speculation": None if usage.speculation is None else msgspec.structs.asdict(usage.speculation),
            "cache": None if usage.cache is None else msgspec.structs.asdict(usage.cache),
        },
        "timings": {
            "load_s": load_s,
            "ttft_s": timings.ttft_s,
            "prefill_tok_s": timings.prefill_tok_s,
            "decode_tok_s": timings.decode_tok_s,
        },
    }


def half_answer_json(text: str, error: ServerError) -> dict[str, Any]:
    """Return what --json prints of an answer that a remote broke off."""
    return {"text": text, "finish_reason": "error", "error": error.message}


def _joined(prompt: str, piped: str | None) -> str:
    return prompt if piped is None else f"{piped}\n\n{prompt}"


def _looks_like_a_model(argument: str) -> bool:
    """Tell a model from a prompt; a text with white space that is no file is a prompt, and nothing is looked up."""
    if argument.lower().endswith(".gguf") or os.path.isfile(argument):
        return True
    return not any(map(str.isspace, argument)) and (remote_ref(argument) is not None or knows(argument))


def _chat(llm: LLM, settings: Settings, prompt: str, options: GenerateOptions) -> Generator[ChatEvent, None, None]:
    messages = [{"role": "user", "content": prompt}]
    if settings.system:
        messages.insert(0, {"role": "system", "content": settings.system})
    return llm.chat(messages, **options)


def _follow(
    stream: Generator[ChatEvent, None, None], status: StatusLine, output: TextOutput | None, said: list[str]
) -> Done:
    """Show the events of one completion as they come, add its text to `said`, and return its end."""
    done: Done | None = None
    with closing(stream):
        for event in stream:
            match event:
                case Progress():
                    status.reading(event)
                case Waiting():
                    status.waiting(event)
                case TextDelta():
                    status.clear()
                    said.append(event.text)
                    if output is not None:
                        output.write(event.text)
                case Done():
                    done = event
    status.clear()
    if output is not None:
        output.end()
    assert done is not None, "a stream without errors ends in Done"
    return done
