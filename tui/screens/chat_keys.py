"""The keys of the chat's screen."""

from __future__ import annotations

from textual.binding import Binding, BindingType

CHAT_KEYS: list[BindingType] = [
    Binding("ctrl+n", "new", "New", id="chat.new", tooltip="Begin another conversation"),
    Binding("escape", "stop", "Stop", id="chat.stop", tooltip="End the answer; what came is kept"),
    Binding("ctrl+r", "regenerate", "Again", id="chat.regenerate", tooltip="Answer again, or load the model again"),
    Binding("ctrl+l", "resume", "Go on", id="chat.resume", show=False, tooltip="Go on with what was cut off"),
    Binding("ctrl+t", "thinking", "Thinking", id="chat.thinking", tooltip="As the model has it, on, off"),
    Binding("ctrl+f", "search", "Search", id="chat.search", priority=True, tooltip="Search all conversations"),
    Binding("ctrl+o", "model", "Model", id="chat.model", tooltip="Choose which model answers"),
    Binding(
        "ctrl+e",
        "settings",
        "Settings",
        id="chat.settings",
        priority=True,
        tooltip="System prompt, temperature and so on, of this chat",
    ),
    Binding("ctrl+b", "sidebar", "Chats", id="chat.sidebar", tooltip="Show or hide the conversations"),
    Binding("ctrl+pageup", "neighbour(-1)", "Previous chat", id="chat.previous", show=False, priority=True),
    Binding("ctrl+pagedown", "neighbour(1)", "Next chat", id="chat.next", show=False, priority=True),
    *(
        Binding(f"alt+{n}", f"nth({n - 1})", f"Chat {n}", id=f"chat.go_{n}", show=False, priority=True)
        for n in range(1, 10)
    ),
    Binding("alt+r", "wish('rename')", "Rename chat", id="chat.rename", show=False),
    Binding("alt+p", "wish('pin')", "Pin chat", id="chat.pin", show=False),
    Binding("alt+a", "wish('archive')", "Archive chat", id="chat.archive", show=False),
    Binding("alt+d", "wish('delete')", "Delete chat", id="chat.delete", show=False),
    Binding("alt+u", "wish('undo_delete')", "Bring back chat", id="chat.undo_delete", show=False),
    Binding("alt+x", "wish('export')", "Export chat", id="chat.export", show=False),
    Binding("alt+i", "wish('import')", "Import chats", id="chat.import", show=False),
    Binding("alt+f", "attach", "Attach a file", id="chat.attach", show=False),
    Binding("alt+l", "prompts", "Saved prompts", id="chat.prompts", show=False),
    Binding("alt+s", "save_prompt", "Save as prompt", id="chat.save_prompt", show=False),
]
