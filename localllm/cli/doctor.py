"""`localllm doctor`: what this machine has for models; and whether a server does what API clients rely on."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.errors import RequestError

if TYPE_CHECKING:
    from localllm.conformance.check import Result
    from localllm.conformance.report import Line, Report
    from localllm.conformance.target import TargetOptions

FAILED = 1


@click.command("doctor", short_help="Check this machine, or an OpenAI-compatible server.")
@click.option("--api", "url", metavar="URL", help="Check this server, such as http://127.0.0.1:8080.")
@click.option("--model", metavar="NAME", help="Which of its models; the first, without it.")
@click.option("--embedding-model", metavar="NAME", help="Which of its models embeds.")
@click.option("--key-env", metavar="VAR", help="The environment variable that holds the API key.")
@click.option("--only", metavar="POINTS", help="Only these points, such as 1,5.")
@click.option("--disrupt", is_flag=True, help="Also provoke failures that end other clients' requests.")
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds to wait for a piece."
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the report as JSON; of this machine also to - (stdout).",
)
@click.option("--verbose", "-v", is_flag=True, help="Also show what passed and what does not apply.")
def command(
    url: str | None,
    model: str | None,
    embedding_model: str | None,
    key_env: str | None,
    only: str | None,
    disrupt: bool,
    timeout: float,
    json_file: Path | None,
    verbose: bool,
) -> int:
    """Check this machine: what it has for running models, and what to do where that is not enough.

    With --api, check whether a server does what API clients rely on, through the official openai and anthropic clients.
    Works with any OpenAI-compatible server. What does not depend on the server, such as a model that does not think, is
    skipped. The exit code is 0 only if nothing failed, else 1.

    \b
    localllm doctor
    localllm doctor --json -
    localllm doctor --api http://127.0.0.1:8080
    localllm doctor --api http://127.0.0.1:8080 --only 1,2,3 --verbose
    """
    if not url:
        return _check_machine(json_file)
    _need_clients()
    from localllm.conformance.report import summary_lines
    from localllm.conformance.target import Patience, TargetOptions

    options = TargetOptions(
        url=url,
        model=model,
        embedding_model=embedding_model,
        key=_key(key_env),
        disrupt=disrupt,
        patience=Patience(request_s=timeout, check_s=3 * timeout),
    )
    report = asyncio.run(_examine(options, _points(only), verbose))
    _show(*summary_lines(report))
    if json_file is not None:
        _write(json_file, report)
    return 0 if report.is_conformant else FAILED


def _check_machine(json_file: Path | None) -> int:
    """Print what this machine has, and return 0: what is missing is advice, not a failure."""
    from localllm.runtime.checkup import check_machine

    is_data = json_file is not None and str(json_file) == "-"
    findings = []
    for finding in check_machine():
        findings.append(finding)
        if not is_data:
            click.secho(f"{'ok  ' if finding.is_ok else 'warn'}", fg="green" if finding.is_ok else "yellow", nl=False)
            click.echo(f"  {finding.name:<10}{finding.text}")
            if finding.advice:
                click.echo(f"      {'':<10}{finding.advice}")
    text = json.dumps([asdict(finding) for finding in findings], ensure_ascii=False)
    if is_data:
        click.echo(text)
    elif json_file is not None:
        _write_text(json_file, text)
    return 0


async def _examine(options: TargetOptions, points: Collection[int] | None, verbose: bool) -> Report:
    from localllm.conformance.checks import all_checks
    from localllm.conformance.report import Report, point_line, result_lines, tally_line
    from localllm.conformance.runner import run_checks
    from localllm.conformance.target import Target

    target = Target(options)
    results: list[Result] = []

    def show(result: Result) -> None:
        of_point = [known for known in results if known.check.point == result.check.point]
        if not of_point:
            _show(point_line(result.check.point))
        _show(*result_lines(result, verbose=verbose))
        results.append(result)
        if len(of_point) + 1 == n_checks[result.check.point]:
            _show(tally_line([*of_point, result]))

    checks = all_checks(points)
    n_checks = {point: sum(check.point == point for check in checks) for point in {check.point for check in checks}}
    try:
        await target.prepare()
        await run_checks(target, checks, show)
    finally:
        await target.close()
    return Report(options.root_url, target.model, results)


def _show(*lines: Line) -> None:
    for line in lines:
        is_colour = line.style not in ("", "bold", "dim")
        click.secho(
            line.text,
            fg=line.style if is_colour else None,
            bold=line.style == "bold" or None,
            dim=line.style == "dim" or None,
        )


def _points(text: str | None) -> set[int] | None:
    from localllm.conformance.points import POINTS

    if text is None:
        return None
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) in POINTS for word in words):
        raise RequestError(f"--only is {text!r}; it must be numbers of points.", hint=f"There are 1 to {len(POINTS)}.")
    return {int(word) for word in words}


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise RequestError(f"The environment variable {variable} is not set.", hint="Let it hold the API key.")
    return key


def _write(file: Path, report: Report) -> None:
    _write_text(file, json.dumps(report.to_json(), indent=1, ensure_ascii=False))


def _write_text(file: Path, text: str) -> None:
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RequestError(
            f"Cannot write {file}: {error.strerror}.", hint="Choose another place with --json."
        ) from error


def _need_clients() -> None:
    try:
        import anthropic  # noqa: F401
        import httpx  # noqa: F401
        import openai  # noqa: F401
    except ImportError as error:
        raise RequestError(
            f"The clients that it asks with are not installed ({error.name} is missing).",
            hint='Install them: pip install "localllm[doctor]"',
        ) from error
