"""What a family's template shows of a call is what its parser reads, its grammar allows and its own writing gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from localllm.chat.formats import Format, detect_format
from localllm.chat.messages import FunctionCall, ToolCall
from localllm.chat.template import ChatTemplate
from localllm.llm import LLM
from tests.chat.formats.cases import OSLO, TEXT, TOOLS, toolbox
from tests.chat.formats.streaming import read
from tests.chat.formats.vocabulary import Acceptance, MarkerVocab
from tests.scripted_backend import ScriptedBackend

OWN = Path(__file__).parent / "templates"
SHARED = Path(__file__).parents[1] / "templates"
# The file, where the answer begins and where it ends.
FAMILIES = [
    (SHARED / "qwen2.5-coder.jinja", "<|im_start|>assistant\n", "<|im_end|>"),
    (SHARED / "llama3.jinja", "assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    (OWN / "mistral-nemo.jinja", "[/INST]", "</s>"),
    (OWN / "devstral.jinja", "[/INST]", "</s>"),
    (OWN / "deepseek-r1.jinja", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    (OWN / "deepseek-v3.1.jinja", "<｜Assistant｜></think>", "<｜end▁of▁sentence｜>"),
    (OWN / "gpt-oss.jinja", "<|start|>assistant", "<|call|>"),
    (OWN / "qwen3-coder.jinja", "<|im_start|>assistant\n", "<|im_end|>"),
]
IDS = [path.stem for path, _, _ in FAMILIES]


def _load(path: Path) -> tuple[ChatTemplate, Format]:
    source = path.read_text()
    return ChatTemplate(source, bos_text="<s>", eos_text="</s>"), detect_format(source)


def _messages(call: tuple[str, str]) -> list[dict[str, Any]]:
    function = {"name": call[0], "arguments": call[1]}
    return [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "tool_calls": [{"id": "abcdefghi", "type": "function", "function": function}]},
    ]


@pytest.mark.parametrize("call", [OSLO, TEXT], ids=["weather", "note"])
@pytest.mark.parametrize(("path", "start", "end"), FAMILIES, ids=IDS)
def test_call_that_a_template_shows_is_read_and_allowed(
    path: Path, start: str, end: str, call: tuple[str, str]
) -> None:
    template, style = _load(path)
    shown = template.render(_messages(call), add_generation_prompt=False)
    written = shown.split(start)[-1].split(end)[0]
    found = read(style.parser(toolbox(), is_thinking=False), written)
    assert [(name, json.loads(text)) for name, text in found.calls] == [(call[0], json.loads(call[1]))]
    assert (found.content, found.n_complete) == ("", 1)
    judge = Acceptance(MarkerVocab(style.markers(toolbox())))
    assert judge.accepts(style.grammar(toolbox(), None, judge.vocab.control, "off"), written)


@pytest.mark.parametrize(("path", "start", "end"), FAMILIES, ids=IDS)
def test_own_writing_is_read_as_the_templates(path: Path, start: str, end: str) -> None:
    _, style = _load(path)
    if style.name == "harmony":
        pytest.skip("its template shows tools and calls; there is no other writing")
    written = style.write_calls([ToolCall(FunctionCall(*OSLO), "abcdefghi")])
    found = read(style.parser(toolbox(), is_thinking=False), written)
    assert [(name, json.loads(text)) for name, text in found.calls] == [(OSLO[0], json.loads(OSLO[1]))]


@pytest.mark.parametrize(("path", "start", "end"), FAMILIES, ids=IDS)
def test_every_prompt_names_the_tools_once_and_shows_calls_and_results(path: Path, start: str, end: str) -> None:
    backend = ScriptedBackend("ok", chat_template=path.read_text(), bos_text="<s>", eos_text="</s>", n_ctx=10**6)
    result = {"role": "tool", "tool_call_id": "abcdefghi", "content": "snow"}
    LLM(backend).ask([*_messages(OSLO), result], tools=TOOLS)
    prompt = backend.calls[0].prompt_text
    assert prompt.count("write_note.") <= 1 and "write_note" in prompt, prompt
    assert "Oslo" in prompt and "snow" in prompt


@pytest.mark.parametrize("file", ["gemma", "smollm2"])
def test_templates_without_tools_show_them_and_what_came_of_them_as_text(file: str) -> None:
    source = (SHARED / f"{file}.jinja").read_text()
    backend = ScriptedBackend("ok", chat_template=source, bos_text="<s>", eos_text="</s>", n_ctx=10**6)
    result = {"role": "tool", "tool_call_id": "abcdefghi", "content": "snow"}
    LLM(backend).ask([*_messages(OSLO), result, {"role": "user", "content": "And?"}], tools=TOOLS)
    prompt = backend.calls[0].prompt_text
    assert prompt.index("write_note") < prompt.index("Go.") < prompt.index("Oslo") < prompt.index("snow")
    assert prompt.index("snow") < prompt.index("And?")


@pytest.mark.parametrize(
    ("file", "thinking", "ending"),
    [
        ("deepseek-r1", None, "<｜Assistant｜><think>\n"),
        ("deepseek-r1", False, "<｜Assistant｜><think>\n\n</think>\n\n"),
        ("deepseek-v3.1", None, "<｜Assistant｜></think>"),
        ("deepseek-v3.1", True, "<｜Assistant｜><think>"),
        ("deepseek-v3.1", False, "<｜Assistant｜></think>"),
        ("gpt-oss", None, "<|start|>assistant"),
        ("gpt-oss", False, "<|start|>assistant<|channel|>analysis<|message|><|end|><|start|>assistant"),
        ("qwen3-coder", False, "<|im_start|>assistant\n"),
    ],
)
def test_thinking_is_switched_as_the_family_has_it(file: str, thinking: bool | None, ending: str) -> None:
    backend = ScriptedBackend("ok", chat_template=(OWN / f"{file}.jinja").read_text(), n_ctx=10**6)
    LLM(backend).ask("Hi", thinking=thinking)
    assert backend.calls[0].prompt_text.endswith(ending)
    if file == "gpt-oss":
        assert ("Reasoning: low" in backend.calls[0].prompt_text) == (thinking is False)


def test_reasoning_before_a_call_goes_back_to_gpt_oss_as_analysis() -> None:
    template, _ = _load(OWN / "gpt-oss.jinja")
    user, call = _messages(OSLO)
    shown = template.render([user, {**call, "reasoning": "I ask."}], add_generation_prompt=False)
    assert "<|channel|>analysis<|message|>I ask.<|end|>" in shown


def test_call_ids_are_shortened_alike_in_call_and_result_where_a_template_insists() -> None:
    template, style = _load(OWN / "mistral-nemo.jinja")
    user, call = _messages(OSLO)
    call["tool_calls"][0]["id"] = "call_0123456789abcdef"
    result = {"role": "tool", "tool_call_id": "call_0123456789abcdef", "content": "snow"}
    ids = re.findall(r'"(?:call_)?id": "(\w{9})"', template.render([user, call, result]))
    assert len(ids) == 2 and ids[0] == ids[1]
    assert style.n_id_chars == 9
