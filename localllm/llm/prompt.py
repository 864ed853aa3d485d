"""From messages and options to what a backend is asked: tokens, the constraints on the answer, and its parser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from localllm.errors import InvalidGrammar, RequestError
from localllm.llm.chat_options import ChatSpec
from localllm.llm.options import GenerationSpec
from localllm.runtime.backend import Backend, GrammarSpec, ReasoningLimit, TextControls

if TYPE_CHECKING:
    from localllm.chat.formats import Format, StreamParser, Thinking, Toolbox
    from localllm.chat.messages import Message
    from localllm.chat.template import ChatTemplate

_CUT = "\N{SYMBOL FOR END OF TEXT}zqcut"
_ANY_OBJECT = '{"type": "object"}'


@dataclass(frozen=True)
class Prompt:
    """What one call asks of the backend, and how its answers are read."""

    tokens: list[int]
    controls: TextControls
    visible_tokens: tuple[int, ...] = ()
    style: Format | None = None
    toolbox: Toolbox | None = None
    is_thinking: bool = False
    """Whether the prompt has begun the reasoning."""
    n_head: int | None = None
    """Tokens up to what was first said, for the context policy "shift"; None where nobody asked."""

    def parser(self) -> StreamParser:
        """Return a parser for one completion."""
        if self.style is None:
            from localllm.chat.formats.parser import StreamParser

            return StreamParser(None)
        return self.style.parser(self.toolbox, is_thinking=self.is_thinking)

    def new_call_id(self) -> str:
        """Return an identifier for a call, of the kind that the model's template takes."""
        from localllm.chat.formats.ids import new_call_id

        return new_call_id(None if self.style is None else self.style.n_id_chars)


class Prompter:
    """Makes prompts for one model. May be used from several threads."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._known: tuple[ChatTemplate, Format] | None = None
        self._marker_ids: dict[str, int | None] = {}

    def of_text(self, text: str | Sequence[int], spec: GenerationSpec) -> Prompt:
        """Return the prompt of a text, or of token ids, that is continued.

        Raises:
            RequestError: it is neither, or empty.
        """
        if isinstance(text, str):
            return Prompt(self._tokens(text, add_special=True), spec.controls)
        tokens = list(text) if isinstance(text, list | tuple) else None
        if not tokens or not all(type(token) is int for token in tokens):
            raise RequestError(f"The prompt must be a string or token ids, not {type(text).__name__}.")
        return Prompt(tokens, spec.controls)

    def of_chat(self, messages: str | Sequence[Mapping[str, Any]], spec: GenerationSpec) -> Prompt:
        """Return the prompt of a conversation.

        Raises:
            RequestError: a message is malformed, or options contradict each other.
            TemplateError: the chat template failed.
            InvalidGrammar: a schema cannot be enforced.
        """
        from localllm.chat.messages import parse_messages

        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        template, style = self._template_and_style()
        rendering, parsed = _Rendering(template, style, spec.chat), parse_messages(messages)
        text = rendering.text(parsed)
        state = _thinking_state(text, style, spec.chat)
        control = self._control_tokens(style.markers(spec.chat.toolbox))
        # Most templates write BOS themselves, and a second one makes answers worse.
        add_special = not template.starts_with_bos(text)
        wants_head = spec.context_policy == "shift" and spec.n_keep is None
        return Prompt(
            tokens=self._tokens(text, add_special=add_special),
            controls=self._controls(spec, style, state, control),
            visible_tokens=tuple(sorted(control.values())),
            style=style,
            toolbox=spec.chat.toolbox,
            is_thinking=state == "open",
            n_head=self._n_tokens(rendering.head(text, parsed), add_special=add_special) if wants_head else None,
        )

    def of_answer(self, messages: Sequence[Mapping[str, Any]], spec: GenerationSpec) -> tuple[list[int], list[int]]:
        """Return the tokens of a conversation up to the text of its last message, the assistant's, and those of that.

        Raises:
            RequestError: as `of_chat`, or the template changes the text.
        """
        from localllm.chat.messages import parse_messages

        template, style = self._template_and_style()
        parsed = parse_messages(messages)
        text = _Rendering(template, style, spec.chat).text(parsed)
        answer = parsed[-1].text
        # Templates often trim messages.
        answer = answer if text.endswith(answer) else answer.lstrip()
        if not text.endswith(answer):
            raise RequestError("The chat template shows this message in other words.", hint="Choose another message.")
        head = self._tokens(text.removesuffix(answer), add_special=not template.starts_with_bos(text))
        return head, self._backend.tokenize(answer, add_special=False, parse_special=False)

    def _template_and_style(self) -> tuple[ChatTemplate, Format]:
        if self._known is None:
            from localllm.chat.formats import detect_format
            from localllm.chat.template import ChatTemplate

            info = self._backend.info
            template = ChatTemplate(info.chat_template, bos_text=info.bos_text, eos_text=info.eos_text)
            self._known = template, detect_format(info.chat_template)
        return self._known

    def _n_tokens(self, text: str, *, add_special: bool) -> int:
        return len(self._backend.tokenize(text, add_special=add_special, parse_special=True))

    def _tokens(self, text: str, *, add_special: bool) -> list[int]:
        tokens = self._backend.tokenize(text, add_special=add_special, parse_special=True)
        if not tokens:
            raise RequestError("The prompt is empty.", hint="Give at least one character.")
        return tokens

    def _control_tokens(self, markers: Sequence[str]) -> dict[str, int]:
        """Return the ids of those markers that are control tokens, whose text is not in their pieces."""
        for marker in markers:
            if marker not in self._marker_ids:
                self._marker_ids[marker] = self._control_token(marker)
        found = {marker: self._marker_ids[marker] for marker in markers}
        return {marker: token for marker, token in found.items() if token is not None}

    def _control_token(self, marker: str) -> int | None:
        tokens = self._backend.tokenize(marker, add_special=False, parse_special=True)
        if len(tokens) != 1 or self._backend.tokenize(marker, add_special=False, parse_special=False) == tokens:
            return None
        return tokens[0]

    def _controls(
        self, spec: GenerationSpec, style: Format, state: Thinking, control: Mapping[str, int]
    ) -> TextControls:
        return msgspec.structs.replace(
            spec.controls,
            grammar=_grammar(spec, style, state, control),
            reasoning=self._reasoning_limit(spec.chat.reasoning_budget, style, state),
        )

    def _reasoning_limit(self, n_tokens: int | None, style: Format, state: Thinking) -> ReasoningLimit | None:
        if n_tokens is None or style.tags is None:
            return None
        ending = self._backend.tokenize(style.thinking_end(), add_special=False, parse_special=True)
        return ReasoningLimit(
            n_tokens=n_tokens,
            start=style.tags.start,
            end=style.tags.end,
            ending=tuple(ending),
            is_open=state == "open",
        )


class _Rendering:
    """One conversation on its way to text."""

    def __init__(self, template: ChatTemplate, style: Format, chat: ChatSpec) -> None:
        self._template = template
        self._style = style
        self._chat = chat

    def text(self, messages: list[Message]) -> str:
        chat = self._chat
        if chat.continue_final_message:
            return self._continued(messages)
        text = self._render(messages)
        return text + self._empty_thinking(text) if chat.add_generation_prompt else text

    def head(self, text: str, messages: list[Message]) -> str:
        """Return the beginning of a conversation's `text`, up to what was first said: the system prompt and tools."""
        first = next((i for i, m in enumerate(messages) if m.role not in ("system", "developer")), None)
        if first is None:
            return text
        other = msgspec.structs.replace(messages[first], content=_CUT)
        head, _, _ = self._render([*messages[:first], other, *messages[first + 1 :]]).partition(_CUT)
        return head if text.startswith(head) else ""

    def _render(self, messages: list[Message]) -> str:
        from localllm.chat.formats.history import tell_of_tools, written_out

        chat, style, tools = self._chat, self._style, None
        has_calls = any(message.tool_calls or message.role == "tool" for message in messages)
        if has_calls and not (style.is_of_template and self._template.supports_calls):
            messages = written_out(messages, style)
        if chat.toolbox is not None and style.is_of_template and self._template.supports_tools:
            tools = chat.toolbox.raw
        elif chat.toolbox is not None:
            messages = tell_of_tools(messages, chat.toolbox, style)
        return self._template.render(
            messages,
            add_generation_prompt=chat.add_generation_prompt,
            tools=tools,
            **{**self._style.template_kwargs(chat.thinking), **chat.template_kwargs},
        )

    def _continued(self, messages: list[Message]) -> str:
        """Return the text up to the end of the last message's content, whatever the template puts after it."""
        last = messages[-1]
        if last.role != "assistant" or last.tool_calls or not last.text:
            raise RequestError(
                "continue_final_message needs a last message of the assistant with text.",
                hint="Add one, or leave continue_final_message out.",
            )
        marked = msgspec.structs.replace(last, content=f"{last.text}{_CUT}")
        before, found, _ = self._render([*messages[:-1], marked]).rpartition(_CUT)
        if not found:
            raise RequestError("The chat template does not show the last message, so it cannot be continued.")
        return before

    def _empty_thinking(self, text: str) -> str:
        """Return what keeps the model from thinking, where the template has no switch for it."""
        tags = self._style.tags
        if tags is None or self._chat.thinking is not False or text.rstrip().endswith(tags.end):
            return ""
        if text.rstrip().endswith(tags.start):
            return self._style.thinking_end()
        return "" if self._style.has_switch(self._template.source) else self._style.empty_thinking()


def _thinking_state(text: str, style: Format, chat: ChatSpec) -> Thinking:
    if style.tags is None:
        return "inside" if chat.continue_final_message else "off"
    if text.rstrip().endswith(style.tags.start):
        return "open"
    if chat.continue_final_message:
        # A message that was cut off while the model thought goes on thinking.
        return "open" if text.rfind(style.tags.start) > text.rfind(style.tags.end) else "inside"
    return "off" if chat.thinking is False or text.rstrip().endswith(style.tags.end) else "optional"


def _grammar(spec: GenerationSpec, style: Format, state: Thinking, control: Mapping[str, int]) -> GrammarSpec | None:
    grammar, toolbox = spec.controls.grammar, spec.chat.toolbox
    if toolbox is not None and grammar is not None and grammar.kind not in ("json_schema", "json_object"):
        if toolbox.mode != "none":
            raise InvalidGrammar("grammar and tools exclude each other.", hint="Use json_schema, or leave one out.")
        toolbox = None
    if toolbox is None:
        if grammar is None:
            shape = "" if spec.chat.reasoning_budget is None else style.shape_grammar(control, state)
            return GrammarSpec("lark", shape) if shape else None
        return msgspec.structs.replace(grammar, preamble=style.preamble(control, state))
    schema = None if grammar is None else grammar.text or _ANY_OBJECT
    return GrammarSpec("lark", style.grammar(toolbox, schema, control, state))
