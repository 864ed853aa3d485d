"""From a conversation to the text that a model continues, by the template in the model file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from localllm.chat.adaptation import Capabilities, adapt
from localllm.chat.chatml import CHATML
from localllm.chat.messages import Message, parse_messages
from localllm.chat.sandbox.renderer import SandboxedTemplate
from localllm.errors import RequestError, TemplateError


class ChatTemplate:
    """A model's chat template, compiled once. May be rendered from several threads at once.

    Args:
        source: Jinja, from the model file, where anything may be in it; None takes ChatML.
        bos_text, eos_text: the texts of the beginning and the end token, "" where there is none.
        fallback: take ChatML where `source` is not a valid template.

    Raises:
        TemplateError: `source` is not a template; the message has the line.
    """

    def __init__(self, source: str | None, *, bos_text: str, eos_text: str, fallback: bool = False) -> None:
        self._bos_text = bos_text
        self._eos_text = eos_text
        self.source = CHATML if source is None else source
        """The Jinja text that is rendered."""
        self.is_fallback = source is None
        """Whether this is ChatML for want of a template."""
        try:
            self._template = SandboxedTemplate(self.source)
        except TemplateError:
            if not fallback:
                raise
            self.source, self.is_fallback = CHATML, True
            self._template = SandboxedTemplate(CHATML)
        self._capabilities = Capabilities(self._probe)

    @property
    def supports_tools(self) -> bool:
        """Whether the template shows the model what tools there are; where not, `render` refuses tools."""
        return self._capabilities.tools

    @property
    def supports_calls(self) -> bool:
        """Whether the template shows calls of tools and their results."""
        return self._capabilities.calls

    @property
    def supports_system(self) -> bool:
        """Whether the template shows a system message; where not, it opens the first user message."""
        return self._capabilities.system

    def render(
        self,
        messages: Sequence[Mapping[str, Any] | Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> str:
        """Return the text of the conversation, special tokens spelled out.

        Args:
            messages: at least one; messages that the template cannot show are fitted, never dropped.
            add_generation_prompt: end with the beginning of the assistant's turn.
            tools: descriptions of functions in OpenAI's shape.
            kwargs: what else the template knows, such as `enable_thinking`; values that JSON can hold.

        Raises:
            RequestError: a message or an argument is malformed.
            TemplateError: the template failed, refused the conversation, or was stopped.
        """
        fitted = adapt(parse_messages(messages), self._capabilities)
        if tools and not self.supports_tools:
            raise TemplateError(
                "This model's chat template has no place for tools.",
                hint="Leave the tools out, or choose a model made for tool use.",
            )
        given = _plain({"tools": list(tools) if tools else None, **kwargs})
        return self._render({**given, "messages": fitted, "add_generation_prompt": add_generation_prompt})

    def starts_with_bos(self, text: str) -> bool:
        """Whether rendered text spells out the beginning token, so that the tokenizer must not add one."""
        return bool(self._bos_text) and text.startswith(self._bos_text)

    def _render(self, variables: Mapping[str, Any]) -> str:
        tokens = {"bos_token": self._bos_text, "eos_token": self._eos_text, "documents": None}
        return self._template.render({**tokens, **variables})

    def _probe(self, messages: list[dict[str, Any]], tools: list[Any] | None) -> str:
        return self._render({"messages": messages, "tools": tools, "add_generation_prompt": False})


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as plain JSON-like ones, since an object with methods has no place in the sandbox."""
    try:
        plain: dict[str, Any] = msgspec.to_builtins(values, str_keys=True)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"A template argument is not plain data: {error}.", hint="Pass what JSON can hold."
        ) from error
    return plain
