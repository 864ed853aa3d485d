"""What a conversation and the field below it look like."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.app import ComposeResult
from textual.pilot import Pilot

from localllm.chat.messages import FunctionCall, ToolCall
from localllm.conversations import Node
from tests.tui.driving import SIZES
from tests.tui.transcripts import MARKDOWN, TranscriptApp, node
from tui.chat.attachments import Attachment
from tui.chat.meter import Figures
from tui.widgets.chat_footer import ChatFooter
from tui.widgets.composer import Composer
from tui.widgets.suggestion_list import Suggestion
from tui.widgets.transcript import Transcript

Snap = Callable[..., bool]

TALK = [
    node(1, "user", "Which is better:\n  a loop, or sum?\n\x1b[31mred\x1b[0m"),
    node(
        2,
        "assistant",
        MARKDOWN,
        reasoning="They want *one* answer.\n\n- short\n- true",
        n_siblings=3,
        sibling_index=1,
        facts={"timings": {"decode_tok_s": 38.2}},
    ),
]
TROUBLE = [
    node(1, "user", "How is the weather? 今日の天気は? مرحبا"),
    node(2, "assistant", tool_calls=(ToolCall(FunctionCall("search", '{"query": "weather", "n": 3}')),)),
    node(3, "tool", "sunny\nwarm\nlittle wind"),
    node(4, "assistant", "It is sun", state="failed", error="The engine's process ended."),
    node(5, "user", "And tomorrow?"),
    node(6, "assistant", "Tomorrow it will", state="interrupted"),
]


class ChatViewApp(TranscriptApp):
    """A transcript, the field and the line below."""

    def __init__(self, nodes: list[Node], theme: str) -> None:
        super().__init__(theme)
        self._messages = nodes

    def compose(self) -> ComposeResult:
        yield Transcript(empty="Nothing is said yet.\nType below, and press Enter.")
        yield Composer()
        yield ChatFooter()

    def on_mount(self) -> None:
        self.transcript.show(self._messages)
        composer = self.query_one(Composer)
        composer.set_offers(
            [Suggestion("command", "/export", "Write it to a file"), Suggestion("prompt", "/review", text="Review:")]
        )
        composer.focus()
        figures = Figures(38.4, 0.24, 1310, 8192, n_reused=1024, n_evicted=512, speedup=1.23)
        self.query_one(ChatFooter).show("smollm2", figures, "idle", None)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "160x50"])
@pytest.mark.parametrize("theme", ["localllm-dark", "localllm-light"])
def test_a_conversation(snap_compare: Snap, size: tuple[int, int], theme: str) -> None:
    async def open_it(pilot: Pilot[None]) -> None:
        transcript = pilot.app.query_one(Transcript)
        transcript.focus()
        await pilot.press("home", "j", "enter")

    assert snap_compare(ChatViewApp(TALK, theme), terminal_size=size, run_before=open_it)


def test_nothing_said(snap_compare: Snap) -> None:
    assert snap_compare(ChatViewApp([], "localllm-dark"), terminal_size=(80, 24))


def test_tools_and_trouble(snap_compare: Snap) -> None:
    assert snap_compare(ChatViewApp(TROUBLE, "localllm-light"), terminal_size=(80, 24))


def test_a_question_with_files_and_offers(snap_compare: Snap) -> None:
    async def write(pilot: Pilot[None]) -> None:
        composer = pilot.app.query_one(Composer)
        composer.attach(Attachment("notes.txt", "one\ntwo\n"))
        composer.attach(Attachment("data.csv", "a,b\n"))
        await pilot.press("/")

    assert snap_compare(ChatViewApp(TALK, "localllm-dark"), terminal_size=(80, 24), run_before=write)


def test_a_question_of_many_lines(snap_compare: Snap) -> None:
    async def write(pilot: Pilot[None]) -> None:
        pilot.app.query_one(Composer).text = "\n".join(f"Line {k}" for k in range(14))

    assert snap_compare(ChatViewApp(TROUBLE, "localllm-dark"), terminal_size=(80, 24), run_before=write)
