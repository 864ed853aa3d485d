"""The model that an adapter was trained for: how its tensors are named and ordered in a GGUF file, and their shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localllm.convert.checkpoint import CONFIG, Checkpoint
from localllm.convert.config import Config, read_json
from localllm.convert.families import Family, family_of, family_of_converted
from localllm.errors import ModelNotFound, UnsupportedModel
from localllm.gguf import GGUFHeader, ModelShape, read_header

Shape = tuple[int, ...]


@dataclass(frozen=True)
class BaseModel:
    """What is needed of the model."""

    family: Family
    shapes: Mapping[str, Shape] | None
    """Of its tensors under their GGUF names, as NumPy has them; None where only its config.json is there."""


def read_base(path: Path) -> BaseModel:
    """Read a model's file, or its folder, of which config.json is enough.

    Args:
        path: a GGUF file, or the folder of a Hugging Face checkpoint.

    Raises:
        ModelNotFound: there is neither.
        InvalidModelFile, InvalidCheckpoint: it is damaged.
        UnsupportedModel: its architecture is none that can be converted.
    """
    if path.is_file():
        return _from_file(read_header(path))
    if not path.is_dir():
        raise ModelNotFound(
            f"There is no model {path}.", hint="Give --base a GGUF file, or the folder that holds config.json."
        )
    config = Config(read_json(path / CONFIG))
    if any(path.glob("model*.safetensors")) and not config.get("quantization_config"):
        checkpoint = Checkpoint.open(path)
        family = family_of(checkpoint.config)
        return BaseModel(family, {tensor.name: tensor.shape for tensor in family.tensors(checkpoint.tensors)})
    return BaseModel(family_of(config), None)


def _from_file(header: GGUFHeader) -> BaseModel:
    shape = ModelShape.from_header(header)
    family = family_of_converted(shape.architecture, _config(header, shape))
    return BaseModel(family, {tensor.name: tuple(reversed(tensor.shape)) for tensor in header.tensors})


def _config(header: GGUFHeader, shape: ModelShape) -> Config:
    """Return what config.json would say of how tensors are named and ordered."""
    if len(set(shape.n_head)) > 1 or len(set(shape.n_head_kv)) > 1:
        raise UnsupportedModel(
            f"The layers of {header.path.name} have different numbers of heads.",
            hint="Adapters for such models cannot be converted.",
        )
    return Config(
        {
            "num_hidden_layers": shape.n_layer,
            "hidden_size": shape.n_embd,
            "num_attention_heads": shape.n_head[0],
            "num_key_value_heads": shape.n_head_kv[0],
            "head_dim": shape.head_dim_k,
            "max_position_embeddings": shape.n_ctx_train,
            "num_experts": shape.n_expert or None,
            "tie_word_embeddings": header.tensor("output.weight") is None,
        },
        header.path.name,
    )
