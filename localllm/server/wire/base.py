"""What all requests for text have in common, and what every API's answer can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from localllm.llm.events import ChatEvent
from localllm.server.errors import Problem


class WireModel(BaseModel):
    """A body; fields that we do not know are ignored, as clients rely on."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class SamplingFields(WireModel):
    """The sampling parameters, spelled as llama-server spells them. A null stands for one that was left out."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    seed: int | None = Field(None, description="0 is a seed like any other; left out or negative draws one.")
    ignore_eos: bool | None = None
    cache_prompt: bool | None = Field(None, description="Reuse, and leave behind, what the prompt shares with others.")
    context_policy: str | None = Field(None, description="When the context is full: error, shift or sinks.")
    n_sink: int | None = Field(None, description="Tokens at the beginning that the policy sinks keeps.")
    lora: list[LoraScale] | None = Field(None, description="Adapters and their scales; those not named are off.")

    spec: Literal["auto", "off", "ngram", "lookahead", "draft"] | None = Field(
        None, description="Whether tokens are drafted and checked several at once; draft needs a draft model."
    )

    def sampling_options(self) -> dict[str, Any]:
        """Return the options of `localllm.llm` that were given."""
        options = {name: getattr(self, name) for name in SamplingFields.model_fields if name not in ("seed", "lora")}
        options["seed"] = self.seed if self.seed is None or self.seed >= 0 else None
        if self.lora is not None:
            options["lora"] = [{"id": item.id, "scale": item.scale} for item in self.lora]
        return {name: value for name, value in options.items() if value is not None}


class LoraScale(WireModel):
    """One adapter of a request."""

    id: int
    scale: float


SamplingFields.model_rebuild()


def _as_bias(value: Any) -> Any:
    """Accept llama-server's list of [token, bias] pairs, where false forbids the token."""
    if isinstance(value, list):
        value = {pair[0]: pair[1] for pair in value if isinstance(pair, list | tuple) and len(pair) == 2}
    if isinstance(value, dict):
        return {key: float("-inf") if bias is False else bias for key, bias in value.items()}
    return value


LogitBias = Annotated[dict[int, float], BeforeValidator(_as_bias)]
Stop = str | list[str]


class StreamOptions(WireModel):
    """OpenAI's stream_options."""

    include_usage: bool | None = False


class Reply(Protocol):
    """An answer in the making: fed with events, it gives bytes of a stream, or one body at the end."""

    def accept(self, event: ChatEvent) -> bytes:
        """Return what the event adds to the stream; b"" for nothing."""

    def end(self) -> bytes:
        """Return what ends the stream."""

    def fail(self, problem: Problem) -> bytes:
        """Return what ends a stream that failed."""

    def body(self) -> Mapping[str, Any]:
        """Return the whole answer, for a request that is not streamed."""
