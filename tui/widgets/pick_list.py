"""A list of which one picks several, in an order: the first that was picked comes first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localllm.printable import harmless


class PickList(OptionList):
    """Names with ticks; Enter and Space pick, and pick off."""

    DEFAULT_CSS = """
    PickList {
        border: none;
        padding: 0;
        background: $background;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "select", "Pick", id="pick.toggle", show=False, tooltip="Pick, or pick off"),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, compact=True)
        self._texts: dict[str, str] = {}
        self._picked: list[str] = []

    @property
    def picked(self) -> tuple[str, ...]:
        """What is picked, in the order of picking."""
        return tuple(self._picked)

    @property
    def n_offered(self) -> int:
        return len(self._texts)

    def offer(self, texts: Mapping[str, str], picked: Sequence[str] | None = None) -> None:
        """Offer these, by key; what was picked stays, also where it is not among them.

        Args:
            texts: what is shown of each.
            picked: pick these instead.
        """
        self._picked = list(self._picked if picked is None else picked)
        self._texts = {**texts, **{key: self._texts.get(key, key) for key in self._picked if key not in texts}}
        here = self.highlighted or 0
        self.clear_options()
        self.add_options(self._offered())
        self.highlighted = min(here, len(self._texts) - 1) if self._texts else None

    def pick(self, key: str) -> None:
        """Pick this one alone, offered or not."""
        self.offer(self._texts, [key])
        self.highlighted = list(self._texts).index(key)

    @on(OptionList.OptionSelected)
    def _toggle(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        key = list(self._texts)[event.option_index]
        self._picked = [one for one in self._picked if one != key] + ([] if key in self._picked else [key])
        self.replace_option_prompt_at_index(event.option_index, self._prompt(key))

    def _offered(self) -> Iterable[Option]:
        return (Option(self._prompt(key)) for key in self._texts)

    def _prompt(self, key: str) -> Content:
        return Content(f"[{'x' if key in self._picked else ' '}] {harmless(self._texts[key])}")
