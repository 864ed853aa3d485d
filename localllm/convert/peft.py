"""LoRA adapters as PEFT saves them: adapter_config.json, and adapter_model.safetensors with two halves of each matrix.

To a matrix W [outputs, inputs] is added s · B A, with A [rank, inputs] and B [outputs, rank]. s is alpha / rank, or
with `use_rslora` alpha / √rank. GPT-2's transposed matrices are no exception: PEFT turns the product there, not the
halves.

Source: PEFT, `LoraConfig`, `LoraLayer.update_layer`, `get_peft_model_state_dict`, `get_pattern_key`; Hu et al. 2021,
section 4.1 (LoRA); Kalajdzievski 2023 (rsLoRA).
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localllm.convert.checkpoint import missing_weights
from localllm.convert.config import Config, read_json
from localllm.convert.safetensors import DOWNLOAD_AGAIN, StoredTensor, read_tensors
from localllm.errors import InvalidCheckpoint, UnsupportedModel

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MERGE = "Merge it into its model with PEFT's merge_and_unload(), and convert what comes of it."

_PREFIX = "base_model.model."
_HALF = re.compile(
    r"base_model\.model\.(?P<module>.+)\.lora_"
    r"(?:(?P<half>[AB])(?:\.default)?\.weight|embedding_(?P<embedding>[AB])(?:\.default)?)"
)
_FROZEN = ".base_layer.weight"
"""The model's own embedding, which PEFT may save along with its halves."""
_NOT_COMPUTED = (
    "use_dora", "modules_to_save", "lora_bias", "layer_replication", "trainable_token_indices", "target_parameters",
    "use_qalora", "alora_invocation_tokens", "arrow_config",
)  # fmt: skip
"""Keys of what llama.cpp does not do with an adapter."""
_HARMLESS_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""How weights were initialised; the other ways (PiSSA, OLoRA, CorDA, LoftQ) change the model's own weights as well."""


@dataclass(frozen=True)
class LoraPair:
    """The two halves for one matrix."""

    module: str
    """Its name in transformers, such as "model.layers.0.self_attn.q_proj"."""
    a: StoredTensor
    """[rank, inputs]; of an embedding, inputs are tokens."""
    b: StoredTensor
    """[outputs, rank]"""
    alpha: float
    """B A is multiplied by alpha / rank."""
    is_embedding: bool

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True)
class PeftAdapter:
    """An adapter as it was published."""

    folder: Path
    pairs: tuple[LoraPair, ...]
    alpha: float
    """That of most pairs; not 0."""
    base_name: str | None
    """The model that it was trained for: a name on the Hub, or a folder."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no model beside it."""
    return (folder / CONFIG).is_file() and not any(folder.glob("model*.safetensors"))


def read_adapter(folder: Path) -> PeftAdapter:
    """Read an adapter's configuration and the headers of its tensors.

    Raises:
        InvalidCheckpoint: something is missing, damaged, or a pickle.
        UnsupportedModel: it changes the model in a way that llama.cpp does not compute.
    """
    config = Config(read_json(folder / CONFIG), CONFIG)
    _check_kind(config)
    if not (folder / WEIGHTS).is_file():
        raise missing_weights(folder, WEIGHTS)
    halves = _halves(read_tensors(folder / WEIGHTS))
    pairs = tuple(_pair(config, module, *found) for module, found in halves.items())
    if not pairs:
        raise InvalidCheckpoint(f"{WEIGHTS} holds no LoRA weights.", hint=DOWNLOAD_AGAIN)
    base_name = config.get("base_model_name_or_path")
    alpha = _times_root(config, config.number("lora_alpha"), config.count("r"))
    return PeftAdapter(folder, pairs, alpha, base_name if isinstance(base_name, str) else None)


def _check_kind(config: Config) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModel(f"The adapter is of type {kind!r}; llama.cpp knows LORA.", hint=MERGE)
    for key in _NOT_COMPUTED:
        if config.get(key):
            raise _not_computed(key, config.get(key))
    if config.get("bias") not in (None, "none"):
        raise _not_computed("bias", config.get("bias"))
    if config.get("init_lora_weights") not in (None, *_HARMLESS_STARTS):
        raise _not_computed("init_lora_weights", config.get("init_lora_weights"))
    if config.number("lora_alpha") == 0:
        raise InvalidCheckpoint(
            f"{CONFIG}: lora_alpha is 0, so the adapter changes nothing.", hint="Use the model alone."
        )


def _not_computed(key: str, value: object) -> UnsupportedModel:
    return UnsupportedModel(
        f"{CONFIG}: {key} is {json.dumps(value)}, which llama.cpp does not compute with an adapter.", hint=MERGE
    )


def _halves(stored: Mapping[str, StoredTensor]) -> dict[str, tuple[StoredTensor, StoredTensor, bool]]:
    """Return A, B, and whether it is an embedding, by module."""
    found: dict[str, dict[str, StoredTensor]] = defaultdict(dict)
    embeddings = set()
    for name, tensor in stored.items():
        match = _HALF.fullmatch(name)
        if match is not None:
            found[match["module"]][match["half"] or match["embedding"]] = tensor
            embeddings |= {match["module"]} if match["embedding"] else set()
        elif not name.endswith(_FROZEN):
            shown = name.removeprefix(_PREFIX)
            raise UnsupportedModel(f"{WEIGHTS} holds {shown!r}, which is no half of a LoRA matrix.", hint=MERGE)
    for module, halves in found.items():
        if len(halves) != 2:
            raise InvalidCheckpoint(f"{WEIGHTS} holds one half only for {module!r}.", hint=DOWNLOAD_AGAIN)
    return {module: (halves["A"], halves["B"], module in embeddings) for module, halves in found.items()}


def _pair(config: Config, module: str, a: StoredTensor, b: StoredTensor, is_embedding: bool) -> LoraPair:
    rank = _rank(config, module)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != rank or b.shape[1] != rank:
        raise InvalidCheckpoint(
            f"The halves for {module!r} are {list(a.shape)} and {list(b.shape)}; {CONFIG} names rank {rank}.",
            hint=DOWNLOAD_AGAIN,
        )
    return LoraPair(module, a, b, _alpha(config, module), is_embedding)


def _rank(config: Config, module: str) -> int:
    key = _pattern(config, "rank_pattern", module)
    return config.count("r") if key is None else config.section("rank_pattern").count(key)


def _alpha(config: Config, module: str) -> float:
    key = _pattern(config, "alpha_pattern", module)
    alpha = config.number("lora_alpha") if key is None else config.section("alpha_pattern").number(key)
    return _times_root(config, alpha, _rank(config, module))


def _times_root(config: Config, alpha: float, rank: int) -> float:
    """Return alpha so that it is divided by the rank, where PEFT divides it by the rank's root."""
    return alpha * math.sqrt(rank) if config.flag("use_rslora") else alpha


def _pattern(config: Config, section: str, module: str) -> str | None:
    """Return the first key that is the end of a module's name, as a regular expression."""
    return next((key for key in config.section(section).values if _matches(key, section, module)), None)


def _matches(key: str, section: str, module: str) -> bool:
    try:
        return re.match(rf"(.*\.)?({key})$", module) is not None
    except re.error as error:
        raise InvalidCheckpoint(
            f"{CONFIG}: {section} has {key!r}, which is no regular expression.", hint=DOWNLOAD_AGAIN
        ) from error
