"""What Ollama's clients ask of a model that writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from localllm.server.errors import BadRequest
from localllm.server.wire.base import SamplingFields, Stop, WireModel
from localllm.server.wire.ollama.history import unpack
from localllm.server.wire.ollama.values import Duration

_NO_IMAGES = "Images need a projector (mmproj), and none is loaded for this model."


class OllamaOptions(SamplingFields):
    """`options`. Those that say how a model is loaded have no effect: it is loaded as the server was told.

    A prompt that is longer than the context is an error, never cut, so a `num_ctx` that is ignored does no harm.
    """

    num_predict: int | None = Field(None, description="Tokens at most; below 1: until the model ends its turn.")
    stop: Stop | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of `localllm.llm` that were given."""
        options = self.sampling_options()
        if self.num_predict is not None and self.num_predict > 0:
            options["max_tokens"] = self.num_predict
        if self.stop:
            options["stop"] = self.stop
        return options


class TextRequest(WireModel):
    """What /api/chat and /api/generate have in common."""

    model: str | None = None
    stream: bool | None = True
    format: Literal["", "json"] | dict[str, Any] | None = Field(None, description="json, or a JSON schema.")
    options: OllamaOptions | None = None
    keep_alive: Duration | None = Field(
        None,
        description="How long the model stays loaded after this: seconds, or a text like 5m. 0 is not at all; a "
        "negative one as long as no other model needs its memory.",
    )
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def streams(self) -> bool:
        return self.stream is not False

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.logprobs)

    @property
    def wants_unloading(self) -> bool:
        """Whether, without anything to answer, the model shall be unloaded."""
        return self.keep_alive == 0

    def text_options(self) -> dict[str, Any]:
        """Return the options of a continued text."""
        options = self.options.options() if self.options is not None else {}
        if isinstance(self.format, dict):
            options["json_schema"] = self.format
        elif self.format == "json":
            options["json_object"] = True
        if self.logprobs:
            options["logprobs"] = self.top_logprobs or 0
        return options

    def chat_options(self) -> dict[str, Any]:
        """Return the options of an answer in a conversation."""
        options = self.text_options()
        if isinstance(self.think, str):
            options["thinking"] = True
            options["template_kwargs"] = {"reasoning_effort": "high" if self.think == "max" else self.think}
        elif self.think is not None:
            options["thinking"] = self.think
        return options


class OllamaMessage(WireModel):
    """One message."""

    role: str
    content: str | None = ""
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    def message(self, where: str) -> dict[str, Any]:
        """Return it in OpenAI's shape.

        Raises:
            BadRequest: it has images.
        """
        if self.images:
            raise BadRequest(f"{where}.images: {_NO_IMAGES}", param=f"{where}.images", hint="Send text only.")
        fields = {
            "role": self.role.lower(),
            "content": self.content or "",
            "reasoning": self.thinking or None,
            "tool_calls": self.tool_calls or None,
            "name": self.tool_name,
            "tool_call_id": self.tool_call_id,
        }
        return {name: value for name, value in fields.items() if value is not None}


class ChatRequest(TextRequest):
    """The body of POST /api/chat. Without messages, the model is only loaded."""

    messages: list[OllamaMessage] | None = None
    tools: list[dict[str, Any]] | None = None

    def openai_messages(self) -> list[dict[str, Any]]:
        """Return the messages in OpenAI's shape."""
        return [message.message(f"messages[{index}]") for index, message in enumerate(self.messages or ())]

    def chat_options(self) -> dict[str, Any]:
        options = super().chat_options()
        if self.tools:
            options["tools"] = self.tools
        return options


class GenerateRequest(TextRequest):
    """The body of POST /api/generate. Without a prompt, the model is only loaded."""

    prompt: str | None = ""
    suffix: str | None = Field(None, description="The text after the gap that the answer fills.")
    system: str | None = None
    template: str | None = Field(None, description="Not supported: a model's own template is used.")
    context: list[int] | None = Field(None, description="That of the answer before, to go on from it.")
    raw: bool | None = Field(None, description="Continue the prompt as it is, without a template.")
    images: list[Any] | None = None

    def check(self) -> None:
        """Check what goes together.

        Raises:
            BadRequest: it does not, or is not supported.
        """
        if self.images:
            raise BadRequest(f"images: {_NO_IMAGES}", param="images", hint="Send text only.")
        if self.template:
            raise BadRequest(
                "template is not supported: the model's own chat template (Jinja) is used.",
                param="template",
                hint="Leave it out, or send a prompt that is already formatted, with raw.",
            )
        if self.raw and (self.system or self.context):
            raise BadRequest("raw excludes system and context.", param="raw", hint="Put all of it in the prompt.")

    @property
    def keeps_context(self) -> bool:
        """Whether the answer carries a context to go on from."""
        return not (self.raw or self.suffix)

    def conversation(self) -> list[dict[str, str]]:
        """Return the messages so far, the prompt the last of them. A system message given now replaces an older one."""
        history: Sequence[Mapping[str, str]] = unpack(self.context or ())
        if self.system:
            history = [
                {"role": "system", "content": self.system},
                *(message for message in history if message.get("role") != "system"),
            ]
        return [*map(dict, history), {"role": "user", "content": self.prompt or ""}]

    def plain_text(self) -> str:
        """Return the conversation as text, for a model without a chat template."""
        return "\n\n".join(message.get("content", "") for message in self.conversation())
