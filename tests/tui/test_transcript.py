"""Reading a conversation, walking through it, and acting on its messages by key."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.pilot import Pilot

from localllm.chat.messages import FunctionCall, ToolCall
from tests.tui.driving import SIZES, screen_text, until
from tests.tui.transcripts import MARKDOWN, TranscriptApp, node, talk
from tui.widgets.transcript import Transcript

N_LAID_OUT = 300
"""Messages that may be held as lines, however long the conversation is."""


async def started(pilot: Pilot[None], app: TranscriptApp, nodes: list) -> Transcript:  # type: ignore[type-arg]
    await pilot.pause()
    app.transcript.show(nodes)
    app.transcript.focus()
    await pilot.pause()
    return app.transcript


TRICKS = "\x1b\x9b\x07[]()*_`~>#|-\n\r\t\u202e\u200d"


def shown(app: TranscriptApp) -> str:
    return screen_text(app)  # type: ignore[arg-type]


async def test_without_messages_it_says_what_to_do() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)):
        assert "Type below, and press Enter." in shown(app)


async def test_a_long_conversation_opens_at_its_end_with_few_messages_laid_out() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(5000))
        assert "Answer 5000." in shown(app) or "Measure before you choose." in shown(app)
        assert transcript.n_laid_out < 40
        await pilot.press("home")
        assert "Question 1?" in shown(app).split("\n")[1]
        await pilot.press("end")
        assert transcript.is_at_end


async def test_walking_up_shows_every_message_in_order_and_forgets_far_ones() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(700))
        seen = []
        for _ in range(699):
            transcript.action_previous_message()
            seen.append(transcript.chosen.id if transcript.chosen else None)
            assert transcript.n_laid_out <= N_LAID_OUT
        assert seen == list(range(699, 0, -1))
        await pilot.pause()
        assert "Question 1?" in shown(app)


@pytest.mark.parametrize("step", [1, 3, 20])
async def test_what_is_read_stays_in_place_while_guessed_heights_turn_out_wrong(step: int) -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(24))
        while transcript.scroll_y > 0:
            before = shown(app).split("\n")
            transcript.scroll_to(y=transcript.scroll_y - step, animate=False)
            await pilot.pause()
            after = shown(app).split("\n")
            if transcript.scroll_y > 0:
                assert _without_bar(after[step:]) == _without_bar(before[:-step])
        assert "Question 1?" in shown(app)


def _without_bar(lines: list[str]) -> list[str]:
    return [re.sub("[▁▂▃▄▅▆▇█▐▌ ]+", " ", line).strip() for line in lines]


async def test_a_streamed_answer_is_shown_as_the_whole_one_is() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 50)) as pilot:
        transcript = await started(pilot, app, [node(1, "user", "Hi")])
        transcript.begin(node(2, "assistant", state="writing"))
        for at in range(0, len(MARKDOWN), 7):
            transcript.stream_text(2, MARKDOWN[at : at + 7])
            if at % 70 == 0:
                await pilot.pause(0.05)
        transcript.finish(node(2, "assistant", MARKDOWN))
        await pilot.pause()
        streamed = shown(app)
        transcript.show([node(1, "user", "Hi"), node(2, "assistant", MARKDOWN)])
        await pilot.pause()
        assert streamed == shown(app)
        assert "return sum(numbers)  # no loop" in streamed


async def test_what_streams_in_is_on_the_screen_soon_and_the_end_stays_in_sight() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(11))
        transcript.begin(node(12, "assistant", state="writing"))
        for k in range(100):
            transcript.stream_text(12, f"Word {k}\n\n")
        await until(pilot, lambda: "Word 99" in shown(app))  # type: ignore[arg-type]
        assert transcript.is_at_end


async def test_scrolled_up_nothing_moves_a_hint_says_so_and_end_goes_down() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(11))
        transcript.begin(node(12, "assistant", state="writing"))
        await pilot.press("pageup", "pageup")
        before = shown(app).split("\n")[:-1]
        for k in range(60):
            transcript.stream_text(12, f"Word {k}\n\n")
        await until(pilot, lambda: "↓ new" in shown(app))  # type: ignore[arg-type]
        assert _without_bar(shown(app).split("\n")[:-1]) == _without_bar(before)
        await pilot.press("end")
        assert "Word 59" in shown(app) and "↓ new" not in shown(app)


async def test_thinking_is_one_line_until_enter_opens_it() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, [node(1, "user", "Hi")])
        transcript.begin(node(2, "assistant", state="writing"))
        transcript.stream_reasoning(2, "They greet me.")
        await until(pilot, lambda: "Thinking… 0 s" in shown(app))  # type: ignore[arg-type]
        transcript.finish(node(2, "assistant", "Hello.", reasoning="They greet me."))
        await pilot.press("end")
        assert "Thought, 3 words" in shown(app) and "They greet me." not in shown(app)
        await pilot.press("enter")
        assert "They greet me." in shown(app)


async def test_tool_calls_and_results_are_folded_until_enter_opens_them() -> None:
    calls = (ToolCall(FunctionCall("search", '{"query": "weather"}')),)
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await started(pilot, app, [node(1, "assistant", tool_calls=calls), node(2, "tool", "sunny\nwarm\nlittle wind")])
        assert 'search({"query": "weather"})' in shown(app) and "→ sunny (+2 lines)" in shown(app)
        assert "little wind" not in shown(app)
        await pilot.press("end", "enter")
        assert "little wind" in shown(app)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("e", Transcript.EditRequested),
        ("r", Transcript.RegenerateRequested),
        ("c", Transcript.ContinueRequested),
        ("t", Transcript.TokensRequested),
    ],
)
async def test_a_key_asks_for_something_about_the_chosen_message(key: str, kind: type[Transcript.OfNode]) -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await started(pilot, app, talk(4))
        await pilot.press("home", "j", key)
        assert [(type(asked), asked.node.id) for asked in app.asked] == [(kind, 2)]


@pytest.mark.parametrize(("key", "by"), [("left", -1), ("[", -1), ("right", 1), ("]", 1)])
async def test_branches_are_switched_where_there_are_others(key: str, by: int) -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await started(pilot, app, [node(1, "user", "Hi"), node(2, "assistant", "Ho", n_siblings=3, sibling_index=1)])
        await pilot.press("end", key, "home", key)
        assert "‹ 2/3 ›" in shown(app)
        assert [(asked.node.id, asked.by) for asked in app.asked if isinstance(asked, Transcript.SiblingRequested)] == [
            (2, by)
        ]


async def test_y_copies_the_message_and_shift_y_its_code_the_last_first() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        text = "```c\nint a;\n```\n\nand\n\n```c\nint b;\n```\n"
        await started(pilot, app, [node(1, "assistant", text)])
        await pilot.press("y")
        assert app.clipboard == text
        await until(pilot, lambda: f"Copied {len(text)} characters" in shown(app))  # type: ignore[arg-type]
        copied = []
        for _ in range(3):
            await pilot.press("Y")
            copied.append(app.clipboard)
        assert copied == ["int b;\n", "int a;\n", "int b;\n"]


async def test_up_and_down_go_line_by_line_through_a_message_that_is_higher_than_the_screen() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        text = "\n\n".join(f"Paragraph {k}" for k in range(40))
        transcript = await started(pilot, app, [node(1, "user", "Hi"), node(2, "assistant", text)])
        await pilot.press("home", "j")
        assert transcript.scroll_y == 3
        await pilot.press("down")
        assert (transcript.scroll_y, transcript.chosen and transcript.chosen.id) == (4, 2)
        await pilot.press("up", "up")
        assert transcript.chosen and transcript.chosen.id == 1


async def test_wide_code_is_moved_sideways() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await started(pilot, app, [node(1, "assistant", "```\n" + "".join(f"<{k:03}>" for k in range(40)) + "\n```")])
        assert "<039>" not in shown(app) and "›" in shown(app)
        await pilot.press(*["shift+right"] * 30)
        assert "<039>" in shown(app) and "‹" in shown(app)
        await pilot.press(*["<"] * 30)
        assert "<000>" in shown(app)


async def test_messages_after_one_are_removed() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(6))
        transcript.remove_after(1)
        await pilot.pause()
        assert [n.id for n in transcript.nodes] == [1]
        assert "Question 1?" in shown(app) and "Answer 2" not in shown(app)


async def test_a_message_that_a_search_found_is_brought_to_the_top() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(1000))
        transcript.choose(501)
        await pilot.pause()
        assert "Question 501?" in shown(app).split("\n")[1]
        assert transcript.chosen and transcript.chosen.id == 501


async def test_it_follows_the_terminals_size() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = await started(pilot, app, talk(200))
        transcript.choose(101)
        for size in [*SIZES, (30, 8), (200, 60), (80, 24)]:
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert "Question 101?" in shown(app)


async def test_text_is_selected_with_the_mouse_and_copied() -> None:
    app = TranscriptApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await started(pilot, app, [node(1, "user", "First line\nSecond line"), node(2, "assistant", "An answer.")])
        await pilot.mouse_down(Transcript, offset=(3, 1))
        await pilot.hover(Transcript, offset=(8, 2))
        await pilot.mouse_up(Transcript, offset=(8, 2))
        await pilot.pause()
        assert app.screen.get_selected_text() == "First line\nSecond"


async def test_a_click_opens_what_is_folded_copies_code_and_follows_links_of_the_web_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = TranscriptApp()
    opened: list[str] = []
    monkeypatch.setattr(app, "open_url", lambda url, new_tab=True: opened.append(url))
    async with app.run_test(size=(80, 24)) as pilot:
        text = "[here](https://a.example/) and [there](ftp://b.example/)\n\n```c\nint a;\n```"
        await started(pilot, app, [node(1, "assistant", text, reasoning="Hidden thought", n_siblings=2)])
        lines = shown(app).split("\n")
        row = next(y for y, line in enumerate(lines) if "here" in line)
        await pilot.click(Transcript, offset=(3, row))
        await pilot.click(Transcript, offset=(lines[row].index("there") + 1, row))
        assert opened == ["https://a.example/"]
        row = next(y for y, line in enumerate(lines) if "copy" in line)
        await pilot.click(Transcript, offset=(lines[row].index("copy"), row))
        assert app.clipboard == "int a;\n"
        await pilot.click(Transcript, offset=(lines[0].index("›"), 0))
        assert isinstance(app.asked[-1], Transcript.SiblingRequested) and app.asked[-1].by == 1
        await pilot.click(Transcript, offset=(5, 1))
        await pilot.pause()
        assert "Hidden thought" in shown(app)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.text(
            alphabet=st.one_of(st.characters(), st.sampled_from("\x1b\x9b\x07[]()*_`~>#|-\n\r\t\u202e\u200d")),
            max_size=200,
        ),
        min_size=1,
        max_size=4,
    )
)
async def test_no_control_character_of_a_model_reaches_the_terminal(texts: list[str]) -> None:
    app = TranscriptApp()
    async with app.run_test(size=(60, 20)) as pilot:
        calls = (ToolCall(FunctionCall(texts[0] or "f", texts[-1])),)
        first = node(1, "user", texts[0])
        last = node(3, "assistant", texts[-1], reasoning=texts[0], model=texts[0], tool_calls=calls, error=texts[-1])
        transcript = await started(pilot, app, [first, node(2, "tool", texts[0]), last])
        for node_id in (1, 2, 3):
            transcript.view(node_id).toggle()
            transcript._changed(node_id)
        transcript.begin(node(4, "assistant", state="writing"))
        for text in texts:
            transcript.stream_text(4, text)
        transcript._flush()
        await pilot.pause()
        for y in range(transcript.virtual_size.height):
            transcript.scroll_to(y=y, animate=False)
        drawn = "".join(s.text for strip in app.screen._compositor.render_strips() for s in strip)
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", drawn)
        assert not {s.control for strip in app.screen._compositor.render_strips() for s in strip} - {None}
