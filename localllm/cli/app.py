"""The root command. Verbs are named here, and imported only when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click

from localllm import __version__


class Verb(NamedTuple):
    """Where a verb's command is, and its line in the list of verbs, which is shown without importing it."""

    home: str
    short_help: str


VERBS = {
    "tui": Verb("localllm.cli.tui:command", "Open the terminal interface; so does localllm alone."),
    "run": Verb("localllm.cli.run:command", "Answer one prompt."),
    "chat": Verb("localllm.cli.chat:command", "Talk to a model in the terminal."),
    "tools": Verb("localllm.cli.tools:command", "Show the tools that models may call."),
    "chats": Verb("localllm.cli.chats:command", "List, search, export and import conversations."),
    "remote": Verb("localllm.cli.remotes:command", "Name engines on other machines, to use them like models here."),
    "serve": Verb("localllm.cli.serve:command", "Serve models over HTTP, for OpenAI's clients and others."),
    "ps": Verb("localllm.cli.ps:command", "Show what a running server has loaded."),
    "doctor": Verb("localllm.cli.doctor:command", "Check this machine, or an OpenAI-compatible server."),
    "plan": Verb("localllm.cli.plan:command", "Say what a model would take here, and how fast it would be."),
    "embed": Verb("localllm.cli.embed:command", "Turn texts into vectors."),
    "eval": Verb("localllm.cli.eval:command", "Measure perplexity, and divergence from another model."),
    "imatrix": Verb(
        "localllm.cli.imatrix:command", "Measure what a model's weights are multiplied by, for quantizing it."
    ),
    "quantize": Verb("localllm.cli.quantize:command", "Make a model smaller."),
    "bench": Verb("localllm.cli.bench:command", "Compare a model's file types: size, quality, speed."),
    "inspect": Verb("localllm.cli.inspect:command", "Look into a model while it reads: outlier activations."),
    "convert": Verb("localllm.cli.convert:command", "Make a GGUF file of a Hugging Face checkpoint or a LoRA adapter."),
    "catalog": Verb("localllm.cli.catalog:command", "List the models that have short names."),
    "search": Verb("localllm.cli.search:command", "Find GGUF models on the Hugging Face Hub."),
    "pull": Verb("localllm.cli.pull:command", "Fetch a model from the Hugging Face Hub, or from a URL."),
    "show": Verb("localllm.cli.show:command", "Show what a GGUF file holds."),
    "list": Verb("localllm.cli.list:command", "List the models on this computer."),
    "import": Verb(
        "localllm.cli.importing:command", "Take a GGUF file into the list of models, under a name of your own."
    ),
    "rm": Verb("localllm.cli.rm:command", "Delete models."),
    "verify": Verb("localllm.cli.verify:command", "Check the files of models for damage."),
}

ALIASES = {"calibrate": "imatrix"}
"""Other names of verbs, which the list of verbs does not show."""


class LazyGroup(click.Group):
    """A group whose commands are the VERBS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        verb = VERBS.get(ALIASES.get(cmd_name, cmd_name))
        if verb is None:
            return None
        module, _, attribute = verb.home.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.short_help) for name, verb in VERBS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in (*VERBS, *ALIASES) and not args[0].startswith("-"):
            raise click.UsageError(f"There is no command {args[0]!r}; there are {', '.join(VERBS)}.", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def app(ctx: click.Context) -> None:
    """Run language models on your own computer. Alone, in a terminal: open the interface.

    Answers go to stdout, everything else to stderr. Settings come from flags, then LOCALLLM_... variables, then the
    configuration file. LOCALLLM_DEBUG=1 shows tracebacks.
    """
    if ctx.invoked_subcommand is not None:
        return
    from localllm.cli.tui import can_open, open_tui

    if can_open():
        open_tui()
    else:
        click.echo(ctx.get_help())
