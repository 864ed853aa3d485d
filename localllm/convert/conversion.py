"""The conversion, from a folder to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf

from localllm.convert.card import read_card
from localllm.convert.checkpoint import Checkpoint
from localllm.convert.families import family_of
from localllm.convert.pooling import read_pooling
from localllm.convert.tokenizer import read_tokenizer
from localllm.convert.types import FILE_TYPES, OutputType
from localllm.convert.writer import OnProgress, write_gguf
from localllm.errors import InvalidCheckpoint, ModelError
from localllm.gguf import check_loadable, read_header
from localllm.llama import Model, ModelParams

_EMBEDDING = "token_embd.weight"


@dataclass(frozen=True)
class Conversion:
    """What came of it."""

    path: Path
    architecture: str
    """llama.cpp's name."""
    n_tensors: int
    n_params: int
    n_bytes: int
    notes: tuple[str, ...]
    """What the user should know, a sentence each."""


def convert(
    source: Path, target: Path, output_type: OutputType = "bf16", on_progress: OnProgress = lambda _done, _total: None
) -> Conversion:
    """Convert a Hugging Face checkpoint to a GGUF file.

    One tensor is in memory at a time, of large ones a part. The file appears under its name when it is whole and
    llama.cpp has accepted it; an existing one is replaced.

    Args:
        source: the folder: config.json, safetensors, the tokenizer's files.
        target: the file.
        output_type: how matrices are stored; vectors, norms and routers are f32.
        on_progress: called with the bytes of weights written so far, and of all.

    Raises:
        ModelNotFound, RequestError: there is no such folder, or the target cannot be written.
        InvalidCheckpoint: something is missing or damaged.
        UnsupportedModel: the architecture or the tokenizer is none that can be converted.
        NotEnoughDisk: the file does not fit on its disk.
    """
    checkpoint = Checkpoint.open(source)
    family = family_of(checkpoint.config)
    tensors = family.tensors(checkpoint.tensors)
    n_vocab = next(tensor.shape[0] for tensor in tensors if tensor.name == _EMBEDDING)
    tokenizer = read_tokenizer(source, family.config, n_vocab)
    pooling = (family.pooling or read_pooling(source)) if family.is_encoder else None
    architecture: str = gguf.MODEL_ARCH_NAMES[family.arch]

    def add_metadata(writer: gguf.GGUFWriter) -> None:
        writer.add_type(gguf.GGUFType.MODEL)
        read_card(source, tensors).set_gguf_meta_model(writer)
        family.add_metadata(writer)
        writer.add_vocab_size(n_vocab)
        if pooling is not None:
            writer.add_pooling_type(pooling)
        tokenizer.add_metadata(writer)
        writer.add_file_type(FILE_TYPES[output_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)

    n_bytes = write_gguf(target, architecture, tensors, output_type, add_metadata, _check, on_progress)
    n_params = sum(tensor.n_items for tensor in tensors)
    notes = [*family.notes, *tokenizer.notes]
    if family.is_encoder and pooling is None:
        notes.append("Nothing says how a text's vectors become one: there is no modules.json beside config.json.")
    return Conversion(target, architecture, len(tensors), n_params, n_bytes, tuple(notes))


def stored_type(source: Path) -> OutputType:
    """Return the narrowest type that holds every matrix of a checkpoint as it is; f32 also for what is wider.

    Raises:
        ModelNotFound, RequestError, InvalidCheckpoint, UnsupportedModel: as `convert`.
    """
    tensors = Checkpoint.open(source).tensors.values()
    kinds = {tensor.dtype for tensor in tensors if tensor.is_float and len(tensor.shape) > 1}
    narrow: dict[frozenset[str], OutputType] = {frozenset({"BF16"}): "bf16", frozenset({"F16"}): "f16"}
    return narrow.get(frozenset(kinds), "f32")


def _check(path: Path) -> None:
    """Have the finished file read as any other: by our reader, and by llama.cpp, which compares names and shapes.

    Raises:
        InvalidCheckpoint: it cannot be run.
    """
    try:
        check_loadable(read_header(path))
        Model(path, ModelParams(no_alloc=True, use_mmap=False)).close()
    except ModelError as error:
        reason = error.message.partition(": ")[2] or error.message
        raise InvalidCheckpoint(
            f"llama.cpp cannot run what came of it: {reason}",
            hint="config.json does not fit the tensors, or the model is a variant: download it again, or report it.",
        ) from error
