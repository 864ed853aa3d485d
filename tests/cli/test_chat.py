"""`localllm chat`, with lines from a pipe and from a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.cli.chat import converse
from localllm.cli.conversation import Conversation, Turn
from localllm.cli.dialogue import Dialogue
from localllm.cli.screen import plain_answer
from localllm.cli.terminal import TextOutput
from localllm.engine.events import ErrorInfo
from localllm.llm import LLM
from tests.cli.conftest import Cli
from tests.scripted_backend import Script, ScriptedBackend


def typed(*lines: str | type[BaseException]) -> Callable[[str], str]:
    """Return what reads these lines; an exception class is raised in its turn, and EOFError at the end."""
    rest: Iterator[str | type[BaseException]] = iter(lines)

    def read_line(prompt: str) -> str:
        line = next(rest, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read_line


def talk(backend: ScriptedBackend, *lines: str | type[BaseException], **options: Any) -> Dialogue:
    dialogue = Dialogue(LLM(backend), Conversation(), options, plain_answer)  # type: ignore[arg-type]
    converse(dialogue, typed(*lines))
    return dialogue


def test_each_piped_line_is_answered_in_its_context(cli: Cli) -> None:
    cli.says("One.", "Two.")
    result = cli("chat", "--system", "Brief.", stdin="first\n\nsecond\n")
    assert (result.code, result.out) == (0, "One.\nTwo.\n")
    assert [call.prompt_text for call in cli.backend.calls] == [
        "<system>Brief.<user>first<assistant>",
        "<system>Brief.<user>first<assistant>One.<user>second<assistant>",
    ]
    assert cli.loads[0]["in_process"] is False


def test_each_answer_is_followed_by_its_speed_and_context(cli: Cli) -> None:
    cli.says("One.", "Two.")
    err = cli("chat", stdin="a\nb\n").err
    assert err.splitlines() == [
        "152 tok/s · first token 0.08 s · context 22/4096 · 0 reused",
        "152 tok/s · first token 0.08 s · context 44/4096 · 18 reused",
    ]


def test_message_of_several_lines() -> None:
    backend = ScriptedBackend()
    talk(backend, "one\\", "two", '"""three', "", 'four"""', '"""five"""')
    assert [call.prompt_text.rpartition("<user>")[2] for call in backend.calls] == [
        "one\ntwo<assistant>",
        "three\n\nfour<assistant>",
        "five<assistant>",
    ]


def test_end_of_input_ends_an_unfinished_message() -> None:
    backend = ScriptedBackend()
    talk(backend, '"""one', "two")
    talk(backend, "three\\")
    assert [call.prompt_text for call in backend.calls] == [
        "<user>one\ntwo<assistant>",
        "<user>three\n<assistant>",
    ]


def test_clear_forgets_turns_and_keeps_the_system_prompt() -> None:
    dialogue = talk(ScriptedBackend(), "/system Brief.", "Hi", "/clear", "Hi")
    assert dialogue.conversation.messages() == [
        {"role": "system", "content": "Brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
    ]


def test_undo_takes_back_one_turn() -> None:
    dialogue = talk(ScriptedBackend("1", "2"), "a", "b", "/undo")
    assert dialogue.conversation.turns == [Turn("a", "1")]


def test_regen_replaces_the_last_answer() -> None:
    backend = ScriptedBackend("1", "2", "3")
    dialogue = talk(backend, "a", "b", "/regen")
    assert dialogue.conversation.turns == [Turn("a", "1"), Turn("b", "3")]
    assert backend.calls[1].prompt_text == backend.calls[2].prompt_text


def test_failed_regen_keeps_the_old_answer(capsys: pytest.CaptureFixture[str]) -> None:
    broken = Script("x", error=ErrorInfo("DecodeFailed", "llama_decode returned -1.", "Try again."))
    dialogue = talk(ScriptedBackend("1", broken), "a", "/regen")
    assert dialogue.conversation.turns == [Turn("a", "1")]
    assert "error: llama_decode returned -1.\nhint: Try again.\n" in capsys.readouterr().err


def test_crash_fails_one_answer_and_the_chat_goes_on() -> None:
    crash = Script("par", error=ErrorInfo("WorkerCrashed", "The worker process ended."))
    dialogue = talk(ScriptedBackend(crash, "Fine."), "a", "b")
    assert dialogue.conversation.turns == [Turn("b", "Fine.")]


def test_overlong_conversation_is_a_notice_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    backend = ScriptedBackend(n_ctx=64)
    dialogue = talk(backend, "short", "long " * 20, "/undo", "short")
    err = capsys.readouterr().err
    assert "context 64" in err and "Nothing is lost" in err
    assert dialogue.conversation.turns == [Turn("short", "Hello!")]


def test_set_changes_the_options_of_the_next_answer() -> None:
    backend = ScriptedBackend()
    lines = ("/set temperature 0.1", '/set stop ["x"]', "/set max_tokens 3", "Hi", "/set max_tokens none", "Hi")
    dialogue = talk(backend, *lines)
    first, second = backend.calls
    assert (first.request.sampling.temperature, first.controls.stop, first.request.max_tokens) == (0.1, ("x",), 3)
    assert second.request.max_tokens is None
    assert dialogue.options["temperature"] == 0.1


@pytest.mark.parametrize("line", ["/set temperature hot", "/set temprature 1", "/set n 2", "/frob", "/save", "/load x"])
def test_bad_command_is_a_notice_and_changes_nothing(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    dialogue = talk(ScriptedBackend(), line, "Hi", temperature=0.5)
    assert capsys.readouterr().err.startswith("error: ")
    assert dialogue.options == {"temperature": 0.5}
    assert dialogue.conversation.turns == [Turn("Hi", "Hello!")]


def test_help_lists_every_command_and_stats_show_the_engine(capsys: pytest.CaptureFixture[str]) -> None:
    talk(ScriptedBackend(), "/help", "/stats", "/set", temperature=0.5)
    err = capsys.readouterr().err
    assert "/regen" in err and "/save FILE" in err and "n_cells 4096" in err and "temperature 0.5" in err


def test_quit_leaves_at_once() -> None:
    backend = ScriptedBackend()
    talk(backend, "/quit", "Hi")
    assert backend.calls == []


def test_saved_json_can_be_continued(tmp_path: Path) -> None:
    path = tmp_path / "talk.json"
    talk(ScriptedBackend("Grüße."), "/system Brief.", "Hi", f"/save {path}")
    assert json.loads(path.read_text(encoding="utf-8"))["messages"][-1] == {"role": "assistant", "content": "Grüße."}
    backend = ScriptedBackend("More.")
    dialogue = talk(backend, f"/load {path}", "And?")
    assert backend.calls[0].prompt_text == "<system>Brief.<user>Hi<assistant>Grüße.<user>And?<assistant>"
    assert dialogue.conversation.turns == [Turn("Hi", "Grüße."), Turn("And?", "More.")]


def test_saved_markdown_has_a_heading_for_each_message(tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    talk(ScriptedBackend("Yes."), "Hi", f"/save {path}")
    assert path.read_text(encoding="utf-8") == "## User\n\nHi\n\n## Assistant\n\nYes.\n"


def test_save_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "talk.md"
    path.write_text("mine")
    talk(ScriptedBackend(), "Hi", f"/save {path}")
    assert path.read_text() == "mine" and "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "1",
        '[{"role": "user", "content": "x"}]',
        '[{"role": "assistant", "content": "x"}]',
        '{"messages": 1}',
    ],
)
def test_file_that_is_no_conversation_is_refused(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "talk.json"
    path.write_text(content)
    dialogue = talk(ScriptedBackend("1"), "a", f"/load {path}")
    assert "error: " in capsys.readouterr().err
    assert dialogue.conversation.turns == [Turn("a", "1")]


class InterruptedOutput(TextOutput):
    """Ctrl-C comes while the third piece is written."""

    n_written = 0

    def write(self, text: str) -> None:
        super().write(text)
        self.n_written += 1
        if self.n_written == 3:
            raise KeyboardInterrupt


def test_interrupt_stops_the_answer_and_keeps_it(capsys: pytest.CaptureFixture[str]) -> None:
    backend = ScriptedBackend(Script("abcdef", endless=True))
    dialogue = Dialogue(LLM(backend), Conversation(), {}, InterruptedOutput)
    converse(dialogue, typed("Hi"))
    assert backend.calls[0].cancelled.is_set()
    assert dialogue.conversation.turns == [Turn("Hi", "abc")]
    out, err = capsys.readouterr()
    assert out == "abc\n" and "(stopped)" in err


def test_second_interrupt_in_a_row_leaves_and_one_alone_does_not() -> None:
    backend = ScriptedBackend()
    interrupt = KeyboardInterrupt
    talk(backend, interrupt, "one", interrupt, interrupt, "never")
    assert [call.prompt_text for call in backend.calls] == ["<user>one<assistant>"]


def test_bad_schema_is_refused_before_the_model_is_loaded(cli: Cli) -> None:
    result = cli("chat", "--json-schema", "/no/such/file", stdin="Hi\n")
    assert result.code == 6 and cli.loads == []
