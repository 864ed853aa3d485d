"""The options of a generation: their names, their bounds, and the request they make.

Every value is checked here, before a prompt is rendered or a model is asked, because llama.cpp ends the process where
a sampler is given nonsense.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast, get_args

import msgspec

from localllm.chat.schema import checked_schema
from localllm.chat.stops import StopFilter
from localllm.engine.request import CONTEXT_POLICIES, ContextPolicy, GenerationRequest, SamplingParams
from localllm.errors import InvalidGrammar, RequestError
from localllm.hardware.types import SpecMode
from localllm.llm.adapters import parse_lora
from localllm.llm.bounds import BOUNDS, FINITE, MAX_SEED
from localllm.llm.chat_options import NAMES as CHAT_NAMES
from localllm.llm.chat_options import ChatSpec, parse_chat_options
from localllm.runtime.backend import GrammarSpec, TextControls


class GenerateOptions(TypedDict, total=False):
    """The keyword arguments of `LLM.chat` and `LLM.generate`; the sampling ones are those of SamplingParams.

    Those from `tools` to `add_generation_prompt` are of conversations only.
    """

    tools: Sequence[Mapping[str, Any]] | None
    """Functions that the model may call, in OpenAI's shape."""
    tool_choice: str | Mapping[str, Any] | None
    """"none", "auto", "required", or {"type": "function", "function": {"name": ...}}."""
    parallel_tool_calls: bool | None
    """Whether more calls than one are allowed; None is True."""
    thinking: bool | None
    """Whether the model thinks before it answers; None is the template's default."""
    reasoning_budget: int | None
    """Tokens of reasoning at most; then the model is made to end it. 0 is none."""
    template_kwargs: Mapping[str, Any] | None
    """What else the chat template is told."""
    continue_final_message: bool
    """Go on with the last message, which is the assistant's, instead of answering it."""
    add_generation_prompt: bool
    """End the prompt with the beginning of the assistant's turn."""
    max_tokens: int | None
    stop: str | Sequence[str] | None
    json_schema: Mapping[str, Any] | str | None
    json_object: bool
    """Answer with a JSON object, of any keys."""
    grammar: str | None
    logprobs: int | bool | None
    n: int
    ignore_eos: bool
    cache_prompt: bool
    lora: Sequence[Mapping[str, Any]] | None
    context_policy: ContextPolicy
    """When the context is full: "error" ends the answer; "shift" keeps the head and forgets the oldest of the rest;
    "sinks" keeps the first `n_sink` tokens (StreamingLLM)."""
    n_sink: int
    n_keep: int | None
    """Tokens that "shift" keeps, -1 for the whole prompt; None: a conversation's up to the end of the system prompt, a
    text's BOS."""
    spec: SpecMode | None
    """Speculation: "auto", "off", "ngram", "lookahead" or "draft"; None is as the model was loaded."""
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    top_n_sigma: float
    xtc_probability: float
    xtc_threshold: float
    repeat_penalty: float
    repeat_last_n: int
    frequency_penalty: float
    presence_penalty: float
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    mirostat: int
    mirostat_tau: float
    mirostat_eta: float
    logit_bias: Mapping[int, float]
    seed: int | None


_NONE_IS_ALLOWED = frozenset(
    {"seed", "max_tokens", "logprobs", "stop", "json_schema", "grammar", "reasoning_budget", "lora", "n_keep"}
)
_NAMES = frozenset(GenerateOptions.__annotations__)
_SAMPLING_NAMES = frozenset(SamplingParams.__struct_fields__)


@dataclass(frozen=True)
class GenerationSpec:
    """Checked options: everything about a generation but its prompt."""

    sampling: SamplingParams
    controls: TextControls
    max_tokens: int | None
    n: int
    n_logprobs: int | None
    ignore_eos: bool
    cache_prompt: bool
    chat: ChatSpec
    lora: tuple[tuple[int, float], ...] | None
    """Id and scale of each LoRA adapter to apply; None: as the model was loaded."""
    context_policy: ContextPolicy
    n_sink: int
    n_keep: int | None
    spec: SpecMode | None

    def requests(
        self, prompt: Sequence[int], visible_tokens: tuple[int, ...] = (), n_head: int | None = None
    ) -> list[GenerationRequest]:
        """Return one request per completion; a given seed grows by one from each to the next.

        Args:
            prompt: token ids.
            visible_tokens: control tokens whose text is wanted.
            n_head: what "shift" keeps where the options do not say.
        """
        return [self._request(tuple(prompt), index, visible_tokens, n_head) for index in range(self.n)]

    def _request(
        self, prompt: tuple[int, ...], index: int, visible_tokens: tuple[int, ...], n_head: int | None
    ) -> GenerationRequest:
        seed = self.sampling.seed
        if seed is not None and index:
            seed = (seed + index) % (MAX_SEED + 1)
        return GenerationRequest(
            prompt=prompt,
            max_tokens=self.max_tokens,
            sampling=msgspec.structs.replace(self.sampling, seed=seed),
            ignore_eos=self.ignore_eos,
            n_logprobs=self.n_logprobs,
            cache_prompt=self.cache_prompt,
            visible_tokens=visible_tokens,
            lora=self.lora,
            context_policy=self.context_policy,
            n_sink=self.n_sink,
            n_keep=n_head if self.n_keep is None else self.n_keep,
            spec=self.spec,
        )


def parse_options(options: Mapping[str, Any]) -> GenerationSpec:
    """Check the keyword arguments of a generation.

    Raises:
        RequestError: an unknown name, or a value out of bounds; the message says which are allowed.
        InvalidGrammar: `json_schema` or a tool's schema cannot be honoured, or comes together with `grammar`.
    """
    _check_names(options)
    for name, value in options.items():
        _check_bound(name, value)
    sampling = {name: value for name, value in options.items() if name in _SAMPLING_NAMES}
    if "logit_bias" in sampling:
        sampling["logit_bias"] = _logit_bias(sampling["logit_bias"])
    if "dry_sequence_breakers" in sampling:
        sampling["dry_sequence_breakers"] = _strings("dry_sequence_breakers", sampling["dry_sequence_breakers"])
    return GenerationSpec(
        sampling=SamplingParams(**sampling),
        controls=TextControls(stop=_stop(options.get("stop")), grammar=_grammar(options)),
        max_tokens=options.get("max_tokens"),
        n=options.get("n", 1),
        n_logprobs=_n_logprobs(options.get("logprobs")),
        ignore_eos=_flag(options, "ignore_eos", default=False),
        cache_prompt=_flag(options, "cache_prompt", default=True),
        lora=parse_lora(options.get("lora")),
        context_policy=_context_policy(options.get("context_policy", "error")),
        n_sink=options.get("n_sink", 4),
        n_keep=options.get("n_keep"),
        spec=_spec(options.get("spec")),
        chat=parse_chat_options(options),
    )


def parse_text_options(options: Mapping[str, Any]) -> GenerationSpec:
    """`parse_options` for a text that is continued.

    Raises:
        RequestError: also for an option that only a conversation has.
    """
    for name in options:
        if name in CHAT_NAMES:
            raise RequestError(f"{name} is an option of conversations.", hint="Use chat, or leave it out.")
    return parse_options(options)


def _check_names(options: Mapping[str, Any]) -> None:
    for name in options:
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"The options are {', '.join(sorted(_NAMES))}."
            raise RequestError(f"There is no option {name!r}.", hint=hint)


def _check_bound(name: str, value: object) -> None:
    bound = BOUNDS.get(name)
    if bound is None or (value is None and name in _NONE_IS_ALLOWED):
        return
    if name == "logprobs" and isinstance(value, bool):
        return
    if not bound.holds(value):
        raise RequestError(f"{name} is {value!r}; it must be {bound}.")


def _n_logprobs(value: int | bool | None) -> int | None:
    if value is None or value is False:
        return None
    return int(value) if value is not True else 0


def _context_policy(value: object) -> ContextPolicy:
    for policy in CONTEXT_POLICIES:
        if value == policy:
            return policy
    raise RequestError(f"context_policy is {value!r}; it must be one of {', '.join(CONTEXT_POLICIES)}.")


def _flag(options: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = options.get(name, default)
    if not isinstance(value, bool):
        raise RequestError(f"{name} is {value!r}; it must be True or False.")
    return value


def _spec(value: Any) -> SpecMode | None:
    modes = get_args(SpecMode)
    if value is not None and value not in modes:
        raise RequestError(f"spec is {value!r}; it must be one of {', '.join(modes)}.")
    return cast("SpecMode | None", value)


def _strings(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(s, str) for s in value):
        raise RequestError(f"{name} must be a list of strings.")
    return tuple(value)


def _stop(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    strings = _strings("stop", [value] if isinstance(value, str) else value)
    StopFilter(strings)  # Checks their number and lengths.
    return strings


def _logit_bias(value: object) -> dict[int, float]:
    if not isinstance(value, Mapping):
        raise RequestError("logit_bias must map token ids to numbers.")
    for token, bias in value.items():
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise RequestError(f"logit_bias has the key {token!r}; keys must be token ids.")
        if bias != -math.inf and not FINITE.holds(bias):
            raise RequestError(f"logit_bias of token {token} is {bias!r}; it must be finite, or -inf to forbid it.")
    return {token: float(bias) for token, bias in value.items()}


def _grammar(options: Mapping[str, Any]) -> GrammarSpec | None:
    schema, grammar = options.get("json_schema"), options.get("grammar")
    is_object = _flag(options, "json_object", default=False)
    if (schema is not None) + (grammar is not None) + is_object > 1:
        raise InvalidGrammar("json_schema, json_object and grammar exclude each other.", hint="Give one of them.")
    if is_object:
        return GrammarSpec("json_object")
    if grammar is not None:
        if not isinstance(grammar, str) or not grammar.strip():
            raise InvalidGrammar("grammar must be the text of a GBNF grammar.")
        return GrammarSpec("gbnf", grammar)
    return None if schema is None else GrammarSpec("json_schema", _schema_text(schema))


def _schema_text(schema: object) -> str:
    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidGrammar(f"json_schema is not JSON: {error}.", hint="Pass what JSON can hold.") from error
    return checked_schema(text)
