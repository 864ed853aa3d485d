"""What all screens share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localllm.config import Settings
from tui.engines import Engines
from tui.tool_belt import ToolBelt

if TYPE_CHECKING:
    from localllm.conversations import ConversationStore
    from tui.chat.sessions import Sessions


@dataclass
class Services:
    """What all screens share; `self.app.services`."""

    settings: Settings
    engines: Engines
    tools: ToolBelt
    conversations: ConversationStore | None = None
    """None until it is open, which is soon."""
    sessions: Sessions | None = None
