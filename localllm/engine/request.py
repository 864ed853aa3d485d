"""What a caller asks of the engine: token ids in, and how to choose the ones that come out."""

from __future__ import annotations

from typing import Literal

import msgspec

from localllm.hardware.types import SpecMode

ContextPolicy = Literal["error", "shift", "sinks"]
"""What happens when a sequence fills its context: it ends ("length"); or it keeps its head, or its first tokens, and
forgets the oldest of the rest."""
CONTEXT_POLICIES: tuple[ContextPolicy, ...] = ("error", "shift", "sinks")


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen. Defaults are llama-server's.

    A temperature of 0 or less takes the most likely token. The order is fixed: bias, penalties, DRY, top-n-sigma,
    top-k, typical, top-p, min-p, XTC, temperature, draw; mirostat replaces everything after the penalties.
    """

    temperature: float = 0.8
    top_k: int = 40
    """0 or less keeps the whole vocabulary."""
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    """Tokens the penalties look back over; -1 is the whole context, 0 is off."""
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    mirostat: int = 0
    """0 off, 1 Mirostat, 2 Mirostat 2.0 (Basu et al. 2021)."""
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: dict[int, float] = {}
    """Token id to a value added to its logit; -inf forbids the token."""
    seed: int | None = None
    """0 is a valid seed; None draws one."""


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One sequence to generate.

    Stop strings and grammars are not here: they are about text, and reach the engine as matcher objects.
    """

    prompt: tuple[int, ...]
    """Token ids, at least one."""
    max_tokens: int | None = None
    """None: until the model ends its turn or the context is full."""
    sampling: SamplingParams = SamplingParams()
    ignore_eos: bool = False
    n_logprobs: int | None = None
    """None: no logprobs. 0: the chosen token's. n: also the n most likely tokens' (20 at most)."""
    cache_prompt: bool = True
    """Reuse, and leave behind, cells of a shared prefix."""
    lora: tuple[tuple[int, float], ...] | None = None
    """Id and scale of the LoRA adapters to apply, and no others; None: those, and as, the model was loaded with."""
    context_policy: ContextPolicy = "error"
    n_sink: int = 4
    """Tokens at the beginning that "sinks" keeps."""
    n_keep: int | None = None
    """Tokens at the beginning that "shift" keeps; below 0 is the whole prompt, None is BOS alone."""
    spec: SpecMode | None = None
    """Whether several tokens are drafted and checked at once; what comes out is the same. None: as loaded."""
    visible_tokens: tuple[int, ...] = ()
    """Control tokens whose text is in the piece of their event; the pieces of others are empty."""
