"""Conversations for tests of what shows them."""

from __future__ import annotations

from typing import Any

from textual.app import App, ComposeResult

from localllm.conversations import Node
from tui.themes import DARK, LIGHT
from tui.widgets.transcript import Transcript

MARKDOWN = """\
## Two ways

A loop is *plain*, and `sum` is **short**; see [the manual](https://docs.python.org/3/).

1. Read the numbers
2. Add them
   - whole numbers are exact
   - others are not

```python
def total(numbers: list[int]) -> int:
    return sum(numbers)  # no loop
```

| way  | lines | speed |
|:-----|------:|:-----:|
| loop |     4 | slow  |
| sum  |     1 | fast  |

> Measure before you choose.
"""


def node(id: int, role: str = "user", text: str = "", **fields: Any) -> Node:
    """Return a message; assistants have a model."""
    if role == "assistant":
        fields.setdefault("model", "smollm2")
    return Node(id=id, conversation_id=1, parent_id=id - 1 or None, role=role, text=text, **fields)  # type: ignore[arg-type]


def talk(n: int) -> list[Node]:
    """Return a conversation of `n` messages of different heights; message k has the id k and names itself."""
    return [
        node(k, "user", f"Question {k}?") if k % 2 else node(k, "assistant", f"Answer {k}.\n\n" + MARKDOWN * (k % 3))
        for k in range(1, n + 1)
    ]


class TranscriptApp(App[None]):
    """A transcript and nothing else; what it asks for is in `asked`."""

    def __init__(self, theme: str = "localllm-dark") -> None:
        super().__init__()
        self.register_theme(DARK)
        self.register_theme(LIGHT)
        self.theme = theme
        self.animation_level = "none"
        self.asked: list[Transcript.OfNode] = []

    def compose(self) -> ComposeResult:
        yield Transcript(empty="Nothing is said yet.\nType below, and press Enter.")

    @property
    def transcript(self) -> Transcript:
        return self.query_one(Transcript)

    def on_transcript_edit_requested(self, message: Transcript.EditRequested) -> None:
        self.asked.append(message)

    def on_transcript_regenerate_requested(self, message: Transcript.RegenerateRequested) -> None:
        self.asked.append(message)

    def on_transcript_continue_requested(self, message: Transcript.ContinueRequested) -> None:
        self.asked.append(message)

    def on_transcript_tokens_requested(self, message: Transcript.TokensRequested) -> None:
        self.asked.append(message)

    def on_transcript_sibling_requested(self, message: Transcript.SiblingRequested) -> None:
        self.asked.append(message)
