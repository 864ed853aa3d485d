"""Parts of a screen: beside each other where there is room, else one at a time."""

from __future__ import annotations

from textual import events
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Label

ROOMY = (120, 32)
"""Columns and rows of the screen from which all parts are shown at once."""


class Pane(Vertical):
    """One part.

    Args:
        title: what it is called.
    """

    DEFAULT_CSS = """
    Pane {
        border-title-color: $text-muted;
        border-title-style: bold;
    }
    """

    def __init__(self, title: str, *children: Widget, id: str | None = None) -> None:
        super().__init__(*children, id=id)
        self.title = title


class _PaneTab(Label):
    def __init__(self, number: int, title: str) -> None:
        super().__init__(Content(title), id=f"pane-tab-{number}")
        self._number = number

    def on_click(self) -> None:
        panes = self.query_ancestor(Panes)
        panes.show(self._number)


class Panes(Container):
    """All parts, in a grid or one behind the other.

    Args:
        panes: at least one.
    """

    DEFAULT_CSS = """
    Panes {
        height: 1fr;
    }
    Panes > #pane-tabs {
        layout: horizontal;
        height: 1;
        dock: top;
    }
    Panes > #pane-tabs Label {
        padding: 0 1;
        margin-right: 1;
        color: $text-muted;
    }
    Panes > #pane-tabs Label.-here {
        color: $text;
        text-style: bold underline;
    }
    Panes > Pane {
        display: none;
        height: 1fr;
        padding: 0 1;
    }
    Panes > Pane.-here {
        display: block;
    }
    Panes.-roomy {
        layout: grid;
        grid-size: 2;
        grid-gutter: 0 1;
    }
    Panes.-roomy > #pane-tabs {
        display: none;
    }
    Panes.-roomy > Pane {
        display: block;
        height: 1fr;
        border: round $border-blurred;
    }
    """

    def __init__(self, *panes: Pane, id: str | None = None) -> None:
        super().__init__(id=id)
        self._panes = panes
        self._shown = 0

    def compose(self) -> ComposeResult:
        with Container(id="pane-tabs"):
            for number, pane in enumerate(self._panes):
                yield _PaneTab(number, pane.title)
        yield from self._panes

    def on_mount(self) -> None:
        for pane in self._panes:
            pane.border_title = Content(pane.title)
        self.show(0)

    def on_resize(self, event: events.Resize) -> None:
        columns, rows = self.app.size
        self.set_class(columns >= ROOMY[0] and rows >= ROOMY[1], "-roomy")

    def show(self, number: int) -> None:
        """Bring a part to the front."""
        self._shown = number % len(self._panes)
        for at, pane in enumerate(self._panes):
            pane.set_class(at == self._shown, "-here")
            self.query_one(f"#pane-tab-{at}").set_class(at == self._shown, "-here")

    @property
    def shown(self) -> str | None:
        """The id of the part in front."""
        return self._panes[self._shown].id

    @property
    def is_roomy(self) -> bool:
        """Whether all are shown at once."""
        return self.has_class("-roomy")

    def show_pane(self, id: str) -> None:
        """Bring the part with this id to the front."""
        self.show(next(number for number, pane in enumerate(self._panes) if pane.id == id))

    def show_next(self) -> None:
        """Bring the next part to the front."""
        self.show(self._shown + 1)
