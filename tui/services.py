"""What all screens share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from localllm.config import Settings
from tui.engines import Engines
from tui.jobs import Jobs


@dataclass
class Services:
    """What all screens share; `self.app.services`."""

    settings: Settings
    """As they are now: look again when `SettingsChanged` comes."""
    engines: Engines
    jobs: Jobs = field(default_factory=Jobs)
    busy_checks: list[Callable[[], list[str]]] = field(default_factory=list)
    """Each says what would end with the app, a sentence for each thing: a job, a server."""

    def busy(self) -> list[str]:
        """Return what would end with the app."""
        return [text for check in self.busy_checks for text in check()]
