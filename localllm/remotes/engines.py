"""What a server is, told by how it lists its models, and which options beyond OpenAI's it takes, under which name.

Servers ignore fields that they do not know, so an option is sent only where it is known to work.

Sources: llama.cpp tools/server/README.md; vLLM, SGLang and TensorRT-LLM: the request models of their OpenAI servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OPENAI = (
    "temperature", "top_p", "max_tokens", "stop", "seed", "n", "frequency_penalty", "presence_penalty", "logit_bias",
    "tools", "tool_choice", "parallel_tool_calls",
)  # fmt: skip
"""Options that all servers take, under their own names."""

_LLAMA = (
    "top_k", "min_p", "typical_p", "top_n_sigma", "xtc_probability", "xtc_threshold", "repeat_penalty", "repeat_last_n",
    "dry_multiplier", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers", "mirostat",
    "mirostat_tau", "mirostat_eta", "grammar", "ignore_eos", "cache_prompt", "lora",
)  # fmt: skip
_OURS = ("context_policy", "n_sink", "spec", "reasoning_budget", "continue_final_message", "add_generation_prompt")
_COMMON = {"top_k": "top_k", "min_p": "min_p", "repeat_penalty": "repetition_penalty", "ignore_eos": "ignore_eos"}
_TEMPLATE = {"continue_final_message": "continue_final_message", "add_generation_prompt": "add_generation_prompt"}


@dataclass(frozen=True)
class Engine:
    """A kind of server."""

    name: str
    extra: Mapping[str, str] = field(default_factory=dict)
    """Option to field, beyond OpenAI's."""
    takes_template_kwargs: bool = False
    version_at: tuple[str, str] | None = None
    """The path and the key that tell the version."""

    def field_of(self, option: str) -> str | None:
        """Return the field that carries an option; None where there is none."""
        return option if option in OPENAI else self.extra.get(option)


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


UNKNOWN = Engine("OpenAI-compatible")

_BY_OWNER = {
    "localllm": Engine("localllm", _same(*_LLAMA, *_OURS), True, ("/v1/admin/status", "version")),
    "llamacpp": Engine("llama-server", _same(*_LLAMA), True, ("/props", "build_info")),
    "vllm": Engine("vLLM", {**_COMMON, **_TEMPLATE}, True, ("/version", "version")),
    "sglang": Engine("SGLang", {**_COMMON, "continue_final_message": "continue_final_message"}, True,
                     ("/server_info", "version")),
    "tensorrt_llm": Engine("TensorRT-LLM", {**_COMMON, **_TEMPLATE}, True, ("/version", "version")),
    "library": Engine("Ollama", version_at=("/api/version", "version")),
}  # fmt: skip
"""What a server writes into `owned_by`."""


@dataclass(frozen=True)
class ModelCard:
    """A model as a server lists it."""

    id: str
    names: tuple[str, ...]
    """Its id, and others that mean it."""
    owner: str
    n_ctx: int
    """Tokens of context; 0 where the server does not say."""
    is_adapter: bool = False
    """Whether it is a LoRA adapter on another model of the list."""

    @property
    def engine(self) -> Engine:
        return _BY_OWNER.get(self.owner.lower(), UNKNOWN)


_N_CTX_NAMES = ("context_length", "max_model_len", "loaded_context_length", "context_window", "max_context_length")


def cards_of(listed: Any) -> list[ModelCard] | None:
    """Return the models that an answer of /v1/models lists; None where it has another shape."""
    data = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(data, list):
        return None
    return [_card(item) for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]


def _card(item: dict[str, Any]) -> ModelCard:
    aliases, meta = item.get("aliases"), item.get("meta")
    names = [name for name in aliases if isinstance(name, str)] if isinstance(aliases, list) else []
    facts = {**item, "meta": meta.get("n_ctx")} if isinstance(meta, dict) else item
    sizes = [facts.get(name) for name in (*_N_CTX_NAMES, "meta")]
    return ModelCard(
        item["id"],
        tuple(dict.fromkeys([item["id"], *names])),
        str(item.get("owned_by") or ""),
        next((size for size in sizes if isinstance(size, int) and size > 0), 0),
        bool(item.get("parent")),
    )
