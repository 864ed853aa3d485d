"""What models of each family write, and what it means; the strings are as their templates show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localllm.chat.formats import Format, ThinkingTags, Toolbox, parse_toolbox
from localllm.chat.formats.deepseek import DeepSeek
from localllm.chat.formats.gemma import Gemma
from localllm.chat.formats.harmony import Harmony
from localllm.chat.formats.hermes import Generic, Hermes
from localllm.chat.formats.llama3 import Llama3
from localllm.chat.formats.mistral import Mistral
from localllm.chat.formats.qwen_coder import QwenCoder

THINK = ThinkingTags("<think>", "</think>")
BRACKETS = ThinkingTags("[THINK]", "[/THINK]")


def tool(name: str, properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required), **more}
    return {"type": "function", "function": {"name": name, "description": f"{name}.", "parameters": parameters}}


WEATHER = tool("get_weather", {"city": {"type": "string"}, "days": {"type": "integer"}}, "city")
NOTE = tool("write_note", {"text": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}}, "text")
TOOLS = [WEATHER, NOTE]


def toolbox(choice: Any = "auto", *, parallel: bool = True, tools: Any = None) -> Toolbox:
    made = parse_toolbox(tools or TOOLS, choice, parallel)
    assert made is not None
    return made


PARIS = ("get_weather", '{"city": "Paris"}')
OSLO = ("get_weather", '{"city": "Oslo", "days": 2}')
TEXT = ("write_note", '{"text": "a \\"b\\"\\n{c}", "tags": ["x", "y"]}')


@dataclass(frozen=True)
class Case:
    """One output, and what shall be made of it."""

    style: Format
    output: str
    content: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    ids: tuple[str | None, ...] = ()
    is_thinking: bool = False
    by_grammar: bool = True
    """Whether the grammar lets a model write it."""

    @property
    def id(self) -> str:
        return f"{self.style.name}: {self.output[:40]!r}"


def _json(call: tuple[str, str], key: str = "arguments") -> str:
    return f'{{"name": "{call[0]}", "{key}": {call[1]}}}'


def _hermes(*calls: tuple[str, str]) -> str:
    return "\n".join(f"<tool_call>\n{_json(call)}\n</tool_call>" for call in calls)


_H = Hermes(THINK)
HERMES = [
    Case(_H, _hermes(PARIS), calls=(PARIS,)),
    Case(_H, f"I look it up.\n{_hermes(PARIS, TEXT)}", "I look it up.", calls=(PARIS, TEXT)),
    Case(_H, f"<think>\nA <tool_call>?\n</think>\n\n{_hermes(OSLO)}", reasoning="A <tool_call>?", calls=(OSLO,)),
    Case(_H, "<think>\n\n</think>\n\nHello, <b>you</b>.", "Hello, <b>you</b>."),
    Case(_H, "Hm.\n</think>\n\nYes.", "Yes.", "Hm.", is_thinking=True),
    Case(_H, f"<tool_call>{_json(PARIS)}</tool_call>", calls=(PARIS,)),
    Case(_H, f"```json\n{_json(PARIS)}\n```", calls=(PARIS,)),
    Case(_H, _json(OSLO), calls=(OSLO,)),
    Case(_H, '```json\n{"name": "Ann"}\n```\nis JSON.', '```json\n{"name": "Ann"}\n```\nis JSON.'),
    Case(_H, 'A list: {"name": "get_weather"}', 'A list: {"name": "get_weather"}'),
    # What a grammar would not let through is content, word for word.
    Case(_H, "<tool_call>\n{nonsense}\n</tool_call>", "<tool_call>\n{nonsense}\n</tool_call>", by_grammar=False),
    Case(_H, f"<tool_call> {_json(('f', '{}'))}", f"<tool_call> {_json(('f', '{}'))}", by_grammar=False),
    Case(
        _H,
        '<tool_call>{"arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>',
        calls=(PARIS,),
        by_grammar=False,
    ),
    Case(
        _H,
        '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}", "id": "x"}</tool_call>',
        calls=(PARIS,),
        by_grammar=False,
    ),
    Case(_H, '<tool_call>{"name": "get_weather"}</tool_call>', calls=(("get_weather", "{}"),), by_grammar=False),
]
_PLAIN = Generic(None)
GENERIC = [
    Case(_PLAIN, f"Yes. {_hermes(PARIS)}", "Yes.", calls=(PARIS,)),
    Case(_PLAIN, "<think>", "<think>"),
]

_L = Llama3(None)
LLAMA3 = [
    Case(_L, _json(PARIS, "parameters"), calls=(PARIS,)),
    Case(_L, f"<|python_tag|>{_json(TEXT, 'parameters')}", calls=(TEXT,)),
    Case(_L, '{"name": "Ann", "age": 3}', '{"name": "Ann", "age": 3}'),
    Case(_L, "It is 5 °C {about}.", "It is 5 °C {about}."),
    Case(_L, "<|python_tag|>print(1)", "<|python_tag|>print(1)", by_grammar=False),
]

_LIST = Mistral(None)
_NAMED = Mistral(BRACKETS, has_list=False)
_WITH_IDS = Mistral(BRACKETS, has_list=False, has_ids=True)
MISTRAL = [
    Case(_LIST, f"[TOOL_CALLS][{_json(PARIS)}]", calls=(PARIS,)),
    Case(_LIST, f"[TOOL_CALLS] [{_json(PARIS)}, {_json(TEXT)}]", calls=(PARIS, TEXT)),
    Case(
        _LIST,
        f'[TOOL_CALLS] [{_json(PARIS)[:-1]}, "id": "abcdefghi"}}]',
        calls=(PARIS,),
    ),
    Case(_LIST, "See [1] and [TOOLS].", "See [1] and [TOOLS]."),
    Case(_LIST, "[TOOL_CALLS][{]", "[TOOL_CALLS][{]", by_grammar=False),
    Case(_NAMED, "Let me see.[TOOL_CALLS]get_weather[ARGS]" + PARIS[1], "Let me see.", calls=(PARIS,)),
    Case(
        _NAMED,
        f"[THINK]Hm [x].[/THINK][TOOL_CALLS]get_weather[ARGS]{OSLO[1]}[TOOL_CALLS]write_note[ARGS]{TEXT[1]}",
        reasoning="Hm [x].",
        calls=(OSLO, TEXT),
    ),
    Case(_NAMED, "[TOOL_CALLS]get_weather" + PARIS[1], calls=(PARIS,), by_grammar=False),
    Case(_NAMED, "[TOOL_CALLS]f[ARGS]{}", "[TOOL_CALLS]f[ARGS]{}", by_grammar=False),
    Case(
        _WITH_IDS,
        f"[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{PARIS[1]}",
        calls=(PARIS,),
        ids=("a1b2c3d4e",),
    ),
]

_G = Gemma(None)
GEMMA = [
    Case(_G, f"```tool_code\n{_json(PARIS, 'parameters')}\n```", calls=(PARIS,)),
    Case(_G, f"Sure.\n\n```tool_code\n{_json(TEXT, 'parameters')}\n```", "Sure.", calls=(TEXT,)),
    Case(_G, f"```json\n{_json(PARIS)}\n```", calls=(PARIS,)),
    Case(_G, "```python\nprint(1)\n```", "```python\nprint(1)\n```"),
    Case(_G, "```tool_code\nprint(1)\n```", "```tool_code\nprint(1)\n```", by_grammar=False),
]

_V3, _V31 = DeepSeek(THINK), DeepSeek(THINK, has_fence=False)


def _v3(*calls: tuple[str, str]) -> str:
    written = [
        f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
        for name, arguments in calls
    ]
    return "<｜tool▁calls▁begin｜>" + "\n".join(written) + "<｜tool▁calls▁end｜>"


def _v31(*calls: tuple[str, str]) -> str:
    written = [f"<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>" for name, arguments in calls]
    return "<｜tool▁calls▁begin｜>" + "".join(written) + "<｜tool▁calls▁end｜>"


DEEPSEEK = [
    Case(_V3, _v3(PARIS), calls=(PARIS,)),
    Case(_V3, f"Hm.\n</think>\n\nI ask.\n{_v3(PARIS, TEXT)}", "I ask.", "Hm.", (PARIS, TEXT), is_thinking=True),
    Case(_V3, "<think>A.</think>B.", "B.", "A."),
    Case(_V31, _v31(OSLO), calls=(OSLO,)),
    Case(_V31, f"So.{_v31(PARIS, OSLO)}", "So.", calls=(PARIS, OSLO)),
    Case(_V31, _v31(("f", "{}")), _v31(("f", "{}")), by_grammar=False),
    Case(_V31, "<｜tool▁calls▁begin｜>oh", "<｜tool▁calls▁begin｜>oh", by_grammar=False),
]

_O = Harmony()
_ANALYSIS = "<|channel|>analysis<|message|>"
_NEXT = "<|end|><|start|>assistant"
_TO_WEATHER = "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
HARMONY = [
    Case(_O, f"{_ANALYSIS}Easy.{_NEXT}<|channel|>final<|message|>Hello!", "Hello!", "Easy."),
    Case(_O, "<|channel|>final<|message|>Hello!", "Hello!"),
    Case(_O, f"{_ANALYSIS}Look.{_NEXT}{_TO_WEATHER}{PARIS[1]}", reasoning="Look.", calls=(PARIS,)),
    Case(_O, f"{_TO_WEATHER}{PARIS[1]}<|call|>", calls=(PARIS,), by_grammar=False),
    Case(_O, f" to=functions.get_weather<|channel|>commentary json<|message|>{OSLO[1]}", calls=(OSLO,)),
    Case(
        _O,
        f"{_ANALYSIS}Look.{_NEXT}<|channel|>commentary<|message|>I ask.{_NEXT}{_TO_WEATHER}{PARIS[1]}",
        "I ask.",
        "Look.",
        (PARIS,),
    ),
    Case(
        _O,
        f"{_ANALYSIS}A{_NEXT}{_ANALYSIS}B{_NEXT}<|channel|>final<|message|>C<|return|>",
        "C",
        "A\n\nB",
        by_grammar=False,
    ),
    Case(_O, "No channels at all.", "No channels at all.", by_grammar=False),
]

_Q = QwenCoder(None)
_NOTE_TAGS = (
    '<tool_call>\n<function=write_note>\n<parameter=text>\na "b"\n{c}\n</parameter>\n'
    '<parameter=tags>\n["x", "y"]\n</parameter>\n</function>\n</tool_call>'
)
_WEATHER_TAGS = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
    "</function>\n</tool_call>"
)
QWEN_CODER = [
    Case(_Q, _NOTE_TAGS, calls=(TEXT,)),
    Case(_Q, f"I look.\n{_WEATHER_TAGS}\n{_NOTE_TAGS}", "I look.", calls=(OSLO, TEXT)),
    Case(_Q, _WEATHER_TAGS.removeprefix("<tool_call>\n"), calls=(OSLO,), by_grammar=False),
    Case(_Q, "<tool_call>\n<function=f>", "<tool_call>\n<function=f>", by_grammar=False),
    Case(_Q, "a < b and <p>", "a < b and <p>"),
]

CASES = [*HERMES, *GENERIC, *LLAMA3, *MISTRAL, *GEMMA, *DEEPSEEK, *HARMONY, *QWEN_CODER]
STYLES: list[Format] = list({id(case.style): case.style for case in CASES}.values())
