"""What all screens share."""

from __future__ import annotations

from dataclasses import dataclass, field

from localllm.config import Settings
from tui.engines import Engines
from tui.jobs import Jobs


@dataclass
class Services:
    """What all screens share; `self.app.services`."""

    settings: Settings
    engines: Engines
    jobs: Jobs = field(default_factory=Jobs)
