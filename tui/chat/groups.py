"""Which conversations stand together in the sidebar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.conversations import Conversation


ORDER = ("Pinned", "Today", "Yesterday", "This week", "Older", "Archived")


def grouped(conversations: Sequence[Conversation], now: datetime) -> list[tuple[str, list[Conversation]]]:
    """Return the groups that have something in them, each in the order of `conversations`."""
    groups: dict[str, list[Conversation]] = {name: [] for name in ORDER}
    for conversation in conversations:
        groups[_group(conversation, now.date())].append(conversation)
    return [(name, found) for name, found in groups.items() if found]


def _group(conversation: Conversation, today: date) -> str:
    if conversation.is_archived:
        return "Archived"
    if conversation.is_pinned:
        return "Pinned"
    day = datetime.fromtimestamp(conversation.updated_s).date()
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return "This week" if day > today - timedelta(days=7) else "Older"
