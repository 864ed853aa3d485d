"""`localllm chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from localllm.cli.conversation import Conversation
from localllm.cli.dialogue import Dialogue
from localllm.cli.lines import ReadLine, piped_line, read_message, terminal_line
from localllm.cli.model import open_model
from localllm.cli.options import adapter_specs, generation_options, shared_options
from localllm.cli.screen import AnswerWriter, MarkdownAnswer, error_notice, notice, plain_answer
from localllm.cli.slash import Quit, obey
from localllm.cli.status import StatusLine
from localllm.config import load_settings
from localllm.errors import EngineClosed, LocalLLMError
from localllm.printable import harmless


@click.command("chat", short_help="Talk to a model in the terminal.")
@click.argument("model", required=False)
@shared_options
def command(
    model: str | None,
    schema_file: Path | None,
    lora: tuple[Path, ...],
    lora_scaled: tuple[tuple[Path, float], ...],
    **flags: str | None,
) -> None:
    """Talk to a model in the terminal.

    Ctrl-C stops an answer, and /help shows the commands. Where stdin is not a terminal, each of its lines is answered
    in turn. What you write is kept in memory only, unless you /save it.
    """
    settings = load_settings({**flags, "model": model})
    options = generation_options(settings, schema_file)
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with open_model(settings, StatusLine(), adapter_specs(lora, lora_scaled), in_process=False) as llm:
        new_writer: Callable[[], AnswerWriter] = MarkdownAnswer if is_terminal else plain_answer
        dialogue = Dialogue(llm, Conversation(settings.system), options, new_writer)
        if is_terminal:
            context = f" · context {llm.info.n_ctx}" if llm.info.n_ctx else ""
            notice(f"{harmless(llm.info.name)}{context} · /help shows the commands, Ctrl-D leaves")
        converse(dialogue, terminal_line if is_terminal else piped_line)


def converse(dialogue: Dialogue, read_line: ReadLine) -> None:
    """Read messages and answer them until there are no more.

    An interrupt at the prompt is forgiven once; a second one in a row leaves.

    Raises:
        EngineClosed: there is no model any more.
    """
    was_interrupted = False
    while True:
        try:
            message = read_message(read_line)
        except EOFError:
            return
        except KeyboardInterrupt:
            if was_interrupted:
                return
            was_interrupted = True
            click.echo(err=True)
            notice("Ctrl-C again, or Ctrl-D, leaves.")
            continue
        was_interrupted = False
        try:
            _act(dialogue, message)
        except Quit:
            return


def _act(dialogue: Dialogue, message: str) -> None:
    if not message.strip():
        return
    try:
        if message.startswith("/"):
            obey(dialogue, message)
        else:
            dialogue.ask(message)
    except EngineClosed:
        raise
    except LocalLLMError as error:
        error_notice(error)
    except KeyboardInterrupt:
        notice("(stopped)")
