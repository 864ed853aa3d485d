"""`localllm tools`: the tool servers of mcp.json, and what they offer."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import click

from localllm.cli.screen import notice
from localllm.printable import harmless

if TYPE_CHECKING:
    from localllm.tools import ServerState, ToolServers


@click.group("tools", invoke_without_command=True, short_help="Show the tools that models may call.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Show the tools that models may call in the terminal UI: those of the MCP servers in mcp.json.

    Every call is shown there, and made only if you allow it.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_tools)


@command.command("list", short_help="Start the servers and list their tools.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list_tools(as_json: bool = False) -> None:
    """Start the servers of mcp.json, list their tools, and end them."""
    from localllm.tools import ToolServers, load_tool_config

    # What servers say wrongly is shown as an error of theirs, not as the library's traceback.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    config = load_tool_config()
    servers = ToolServers(config)
    asyncio.run(_ask(servers))
    if as_json:
        click.echo(json.dumps([_facts(state, servers) for state in servers.states], ensure_ascii=False))
    for state in servers.states:
        if not as_json:
            click.echo("\n".join(map(harmless, _lines(state, servers))))
    for name, problem in config.problems.items():
        notice(harmless(f"{name}: {problem}"))
    if not config.servers and not config.problems:
        notice(f"There are no tool servers. Name them in {config.file}")


async def _ask(servers: ToolServers) -> None:
    try:
        await servers.start_all()
    finally:
        await servers.stop_all()


def _lines(state: ServerState, servers: ToolServers) -> list[str]:
    lines = [f"{state.config.name}: {state.config.summary}"]
    if state.error is not None:
        lines.append(f"  {state.error.message} {state.error.hint or ''}".rstrip())
    for named in servers.tools:
        if named.tool.server == state.config.name:
            first_line = named.tool.description.strip().partition("\n")[0]
            lines.append(f"  {named.model_name}  {first_line}".rstrip())
    return lines


def _facts(state: ServerState, servers: ToolServers) -> dict[str, Any]:
    tools = [named for named in servers.tools if named.tool.server == state.config.name]
    return {
        "name": state.config.name,
        "error": None if state.error is None else state.error.message,
        "tools": [
            {
                "name": named.model_name,
                "description": named.tool.description,
                "parameters": named.tool.schema,
                "is_simplified": named.tool.is_simplified,
                "is_read_only": named.tool.is_read_only,
            }
            for named in tools
        ],
    }
