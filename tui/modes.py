"""The screens that one switches between: their names, keys and homes. Each is imported when it is first shown."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui.screens.mode import ModeScreen


@dataclass(frozen=True)
class Mode:
    """One of the screens."""

    name: str
    title: str
    key: str
    home: str
    """module:class"""
    help: str

    @property
    def binding_id(self) -> str:
        """The id of the key that leads there."""
        return f"app.{self.name}"

    def screen(self) -> ModeScreen:
        """Make the screen."""
        module, _, attribute = self.home.partition(":")
        made: ModeScreen = getattr(import_module(module), attribute)()
        return made


ALL_MODES = (
    Mode("chat", "Chat", "f2", "tui.screens.chat:ChatScreen", "Talk to a model"),
    Mode("models", "Models", "f3", "tui.screens.models:ModelsScreen", "Find, fetch and keep models"),
    Mode("quantize", "Quantize", "f4", "tui.screens.quantize:QuantizeScreen", "Make a model smaller"),
    Mode("serve", "Serve", "f5", "tui.screens.serve:ServeScreen", "Serve models over HTTP"),
    Mode("hardware", "Hardware", "f6", "tui.screens.hardware:HardwareScreen", "This machine, and how fast it is"),
    Mode("settings", "Settings", "f7", "tui.screens.settings:SettingsScreen", "Every setting, and where it is from"),
)
