"""Where the server is, how long it has run, and what it does now."""

from __future__ import annotations

from textual.content import Content
from textual.widgets import Static

from localllm.printable import harmless
from tui.figures import rate, span
from tui.serving.server import ServerView

_WORDS = {
    "starting": "○ starting",
    "running": "● running",
    "stopping": "◌ stopping",
    "ended": "✗ ended",
    "stopped": "○ stopped",
}
_STYLES = {"running": "$success", "ended": "$error", "starting": "$warning", "stopping": "$warning"}


class ServerHead(Static):
    """Two lines about a server."""

    DEFAULT_CSS = """
    ServerHead {
        height: auto;
        padding: 0 1;
        margin-bottom: 1;
    }
    """

    def show(self, view: ServerView, *, has_key: bool) -> None:
        """Describe it."""
        state = Content.styled(_WORDS[view.phase], f"bold {_STYLES.get(view.phase, '$text-muted')}")
        key = "API key needed (k copies it)" if has_key else "no key"
        whose = "ends with this app" if view.is_own else "runs by itself"
        facts = "" if view.error is not None else f"  {key}, {whose}"
        first = Content.assemble(state, "  ", (f"{view.url}/v1", "bold"), facts)
        self.update(Content("\n").join([first, *(Content(line) for line in _lines(view))]))


def _lines(view: ServerView) -> list[str]:
    if view.error is not None:
        return [f"{harmless(view.error.message)} Its last words are below. r: start again"]
    if view.status is None:
        return ["Waiting for its first answer."]
    running = sum(int(model["running"]) for model in view.models)
    waiting = sum(int(model["waiting"]) for model in view.models)
    moments = view.history.moments
    tok_s = moments[-1].decode_tok_s if moments else 0.0
    up = span(float(view.status["uptime_s"]))
    return [f"{running} running, {waiting} waiting, {rate(tok_s)} tokens/s; up {up}"]
