"""Families by their templates; the excerpts are of what tells them apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm.chat.formats import Format, ThinkingTags, detect_format
from localllm.chat.messages import FunctionCall, Message, ToolCall
from tests.chat.formats.cases import STYLES, WEATHER, toolbox

TEMPLATES = Path(__file__).parents[1] / "templates"
QWEN3 = """{{- '<tool_call>\\n{"name": "' }}{%- set reasoning_content = content.split('</think>')[0] %}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"""
LLAMA31 = "{{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' }}{{- '<|python_tag|>' + tool_call.name }}"
LLAMA30 = "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>' %}"
DEVSTRAL = "{{- '[TOOL_CALLS]' + tool['function']['name'] + '[ARGS]' + arguments }}"
SMALL32 = "{{- '[TOOL_CALLS]' + name + '[CALL_ID]' + id + '[ARGS]' + arguments }}"
MAGISTRAL = "[THINK]{{ block['thinking'] }}[/THINK][TOOL_CALLS]{{ name }}[ARGS]"
R1 = (
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + '```json' "
    "{{'<｜Assistant｜><think>\\n'}}</think>"
)
V31 = "'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>'+ tool['function']['name'] + '<｜tool▁sep｜>' </think>"
GPT_OSS = "<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>"
CODER = "<tool_call>\n<function=' + tool_call.name + '>\n<parameter=' + args_name + '>"
GLM = "<tool_call>{{ tc.name }}\n<arg_key>{{ k }}</arg_key> <think></think>"


@pytest.mark.parametrize(
    ("template", "name", "tags"),
    [
        (None, "hermes", None),
        (QWEN3, "hermes", ThinkingTags("<think>", "</think>")),
        (LLAMA31, "llama3", None),
        (LLAMA30, "generic", None),
        (DEVSTRAL, "mistral", None),
        (MAGISTRAL, "mistral", ThinkingTags("[THINK]", "[/THINK]")),
        (R1, "deepseek", ThinkingTags("<think>", "</think>")),
        (V31, "deepseek", ThinkingTags("<think>", "</think>")),
        (GPT_OSS, "harmony", ThinkingTags("<|channel|>analysis<|message|>", "<|end|>")),
        (CODER, "qwen-coder", None),
        (GLM, "generic", ThinkingTags("<think>", "</think>")),
        ("{{ messages[0].content }}", "generic", None),
    ],
)
def test_family_and_its_reasoning_are_told_by_the_template(
    template: str | None, name: str, tags: ThinkingTags | None
) -> None:
    style = detect_format(template)
    assert (style.name, style.tags) == (name, tags)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("smollm2", "generic"),
        ("qwen2.5-coder", "hermes"),
        ("llama3", "llama3"),
        ("mistral", "mistral"),
        ("gemma", "gemma"),
    ],
)
def test_families_of_real_templates(file: str, name: str) -> None:
    assert detect_format((TEMPLATES / f"{file}.jinja").read_text()).name == name


def _call(style: Format) -> str:
    return style.write_calls([ToolCall(FunctionCall("f", "{}"), "abcdefghi")])


def test_variants_of_a_family_are_told_apart() -> None:
    assert _call(detect_format(R1)).count("```") == 2 and "```" not in _call(detect_format(V31))
    assert _call(detect_format((TEMPLATES / "mistral.jinja").read_text())).startswith("[TOOL_CALLS][{")
    assert _call(detect_format(DEVSTRAL)) == "[TOOL_CALLS]f[ARGS]{}"
    assert _call(detect_format(SMALL32)) == "[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{}"


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_description_of_tools_names_them_with_their_arguments_and_shows_how_to_call(style: Format) -> None:
    text = style.describe_tools(toolbox(tools=[WEATHER]))
    assert "get_weather" in text and '"city"' in text
    marker = {"llama3": '"parameters"', "harmony": "<tool_call>"}.get(
        style.name, (*style.call_markers, "```tool_code")[0]
    )
    assert marker in text
    assert "snow" in style.write_result(Message(role="tool", content="snow"))
