"""What all screens share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from localllm.config import Settings
from tui.downloads import Downloads
from tui.engines import Engines
from tui.serving.server import Server
from tui.tool_belt import ToolBelt

if TYPE_CHECKING:
    from localllm.conversations import ConversationStore
    from tui.chat.sessions import Sessions


@dataclass
class Services:
    """What all screens share; `self.app.services`."""

    settings: Settings
    """As they are now: look again when `SettingsChanged` comes."""
    engines: Engines
    tools: ToolBelt
    downloads: Downloads = field(default_factory=Downloads)
    server: Server = field(default_factory=Server)
    conversations: ConversationStore | None = None
    """None until it is open, which is soon."""
    sessions: Sessions | None = None
    busy_checks: list[Callable[[], list[str]]] = field(default_factory=list)
    """Each says what would end with the app, a sentence for each thing: a job, a server."""

    def busy(self) -> list[str]:
        """Return what would end with the app."""
        return [text for check in self.busy_checks for text in check()]
