"""A Hugging Face folder: config.json, and the tensors of one safetensors file or of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localllm.convert.config import Config, read_json
from localllm.convert.safetensors import StoredTensor, read_tensors
from localllm.errors import InvalidCheckpoint, ModelNotFound, RequestError, UnsupportedModel

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was published: what it says of itself, and where its tensors lie."""

    folder: Path
    config: Config
    tensors: Mapping[str, StoredTensor]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read config.json and the headers of the tensor files, not the tensors.

        Raises:
            ModelNotFound: there is no such folder.
            RequestError: it is a file.
            InvalidCheckpoint: something is missing, damaged, or a pickle.
            UnsupportedModel: the weights are quantized already.
        """
        if not folder.exists():
            raise ModelNotFound(f"There is no folder {folder}.", hint="Name the folder that holds config.json.")
        if not folder.is_dir():
            raise RequestError(
                f"{folder} is a file; the folder of a Hugging Face checkpoint is needed.",
                hint="Name the folder that holds config.json and the .safetensors files.",
            )
        if not (folder / CONFIG).is_file():
            raise InvalidCheckpoint(f"{folder} holds no {CONFIG}.", hint=_missing_config_hint(folder))
        config = Config(read_json(folder / CONFIG))
        _check_not_quantized(config)
        return cls(folder, config, _tensors(folder))


def _missing_config_hint(folder: Path) -> str:
    if (folder / _ADAPTER).is_file():
        return "It is a LoRA adapter beside a model's weights: leave one of them in the folder."
    return "Name the folder of a Hugging Face checkpoint, or download the model again."


def _check_not_quantized(config: Config) -> None:
    method = config.section("quantization_config").get("quant_method")
    if method is not None:
        raise UnsupportedModel(
            f"The weights are quantized already, by {method}.", hint="Choose the original 16-bit or 32-bit checkpoint."
        )


def _tensors(folder: Path) -> dict[str, StoredTensor]:
    if (folder / INDEX).is_file():
        return _indexed_tensors(folder)
    paths = sorted(folder.glob("model*.safetensors"))
    if not paths:
        raise missing_weights(folder, "model*.safetensors")
    _check_shards(folder, paths)
    found: dict[str, StoredTensor] = {}
    for path in paths:
        for name, tensor in read_tensors(path).items():
            if name in found:
                raise InvalidCheckpoint(
                    f"Tensor {name!r} is in {found[name].path.name} and in {path.name}.",
                    hint="The folder holds files of two models: download one of them into a folder of its own.",
                )
            found[name] = tensor
    return found


def missing_weights(folder: Path, wanted: str) -> InvalidCheckpoint:
    """Return the error that a folder holds no `wanted`, or pickles instead."""
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        return InvalidCheckpoint(
            f"The weights are a pickle, {pickles[0]}, which could run any code when it is opened.",
            hint="Choose a model with .safetensors files; most have them, if only in another revision.",
        )
    return InvalidCheckpoint(f"{folder} holds no {wanted}.", hint="Download the model again.")


def _check_shards(folder: Path, paths: list[Path]) -> None:
    """Without an index, shards say by their names how many there are: model-00001-of-00003.safetensors."""
    for path in paths:
        head, _, n_shards = path.stem.rpartition("-of-")
        if head and n_shards.isdecimal():
            _demand_files(folder, {f"model-{n:05}-of-{n_shards}.safetensors" for n in range(1, int(n_shards) + 1)})
            return


def _indexed_tensors(folder: Path) -> dict[str, StoredTensor]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not all(_is_plain(shard) for shard in weight_map.values()):
        raise InvalidCheckpoint(f"{INDEX} holds no map from tensors to files.", hint="Download the file again.")
    _demand_files(folder, set(weight_map.values()))
    shards = {shard: read_tensors(folder / shard) for shard in sorted(set(weight_map.values()))}
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise InvalidCheckpoint(
                f"Tensor {name!r} is not in {shard}, where {INDEX} has it.", hint="Download the model again."
            )
    return {
        name: tensor
        for shard, found in shards.items()
        for name, tensor in found.items()
        if weight_map.get(name) == shard
    }


def _is_plain(shard: object) -> bool:
    """Whether it is a file's name and no path that leads elsewhere."""
    return isinstance(shard, str) and Path(shard).name == shard and shard.endswith(".safetensors")


def _demand_files(folder: Path, names: set[str]) -> None:
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise InvalidCheckpoint(
            f"{len(missing)} of {len(names)} files of weights are missing, {missing[0]} the first.",
            hint="Download the model again; what is there already is not downloaded twice.",
        )
