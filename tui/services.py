"""What all screens share."""

from __future__ import annotations

from dataclasses import dataclass, field

from localllm.config import Settings
from tui.downloads import Downloads
from tui.engines import Engines


@dataclass
class Services:
    """What all screens share; `self.app.services`."""

    settings: Settings
    engines: Engines
    downloads: Downloads = field(default_factory=Downloads)
