"""What a check-up of the machine found, and what to do about it."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from localllm.printable import harmless

_NAME_WIDTH = 10


class CheckList(VerticalScroll):
    """A line for each finding."""

    def compose(self) -> ComposeResult:
        yield Static("Looking at the machine…", id="findings")

    def show(self, findings: list[dict[str, Any]], *, is_done: bool, problem: str = "") -> None:
        """Show what was found so far."""
        lines = [line for finding in findings for line in _lines(finding)]
        if problem:
            lines.append(Content.styled(problem, "$error"))
        elif not is_done:
            lines.append(Content.styled("Looking at the machine…", "$text-muted"))
        self.query_one("#findings", Static).update(Content("\n").join(lines))


def _lines(finding: dict[str, Any]) -> list[Content]:
    mark = ("✓ ", "$success") if finding["is_ok"] else ("! ", "bold $warning")
    name = f"{harmless(str(finding['name'])):<{_NAME_WIDTH}}"
    lines = [Content.assemble(mark, (name, "bold"), harmless(str(finding["text"])))]
    if finding.get("advice"):
        lines.append(Content.styled(f"  {'':<{_NAME_WIDTH}}→ {harmless(str(finding['advice']))}", "$text-muted"))
    return lines
