"""What all screens share."""

from __future__ import annotations

from dataclasses import dataclass

from localllm.config import Settings
from tui.engines import Engines
from tui.tool_belt import ToolBelt


@dataclass
class Services:
    """What all screens share; `self.app.services`."""

    settings: Settings
    engines: Engines
    tools: ToolBelt
