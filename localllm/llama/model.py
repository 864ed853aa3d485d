"""A model's weights and facts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from localllm.errors import AllocationFailed, ModelLoadFailed, UnsupportedModel
from localllm.llama.amx import amx_fails
from localllm.llama.buffers import parse_buffers
from localllm.llama.library import kept_log, last_log_errors, library, path_bytes, reason, says_no_memory
from localllm.llama.vocab import Vocab


@dataclass(frozen=True)
class ModelParams:
    """How to load a model. `n_gpu_layers` below 0 means all."""

    n_gpu_layers: int = 0
    use_mmap: bool = True
    vocab_only: bool = False
    no_alloc: bool = False
    """Check names and shapes of all tensors, and read none of them; such a model computes nothing."""


class Model:
    """A loaded model. Close it after every context made from it."""

    def __init__(
        self,
        path: Path,
        params: ModelParams = ModelParams(),
        on_progress: Callable[[float], bool] | None = None,
    ) -> None:
        """Load the file.

        Args:
            path: a GGUF file, the first one if it is split.
            params: how to load it.
            on_progress: called with the loaded share, 0 to 1; returning False stops the load, and so does an
                exception, which is then raised.

        Raises:
            UnsupportedModel: llama.cpp does not know the architecture.
            AllocationFailed: llama.cpp did not get the memory.
            ModelLoadFailed: it refused the file; the message gives its reason.
        """
        self._lib = library()
        self._handle: Any = None
        progress = _Progress(on_progress)
        last_log_errors(clear=True)
        with kept_log() as log_lines:
            self._handle = self._lib.llama_model_load_from_file(path_bytes(path), self._c_params(params, progress))
        if progress.error is not None:
            self.close()
            raise progress.error
        if progress.stopped and not self._handle:
            raise ModelLoadFailed(f"The load of {path.name} was stopped.", hint="Load it again when it is wanted.")
        if not self._handle:
            raise load_error(path, last_log_errors(clear=True))
        self.path = path
        self.buffers = parse_buffers(log_lines)
        """What was allocated or mapped, as llama.cpp logged it."""
        self.vocab = Vocab(self._lib.llama_model_get_vocab(self._handle))

    def _c_params(self, params: ModelParams, progress: _Progress) -> Any:
        c = self._lib.llama_model_default_params()
        c.n_gpu_layers = params.n_gpu_layers
        c.load_mode = self._lib.LLAMA_LOAD_MODE_MMAP if params.use_mmap else self._lib.LLAMA_LOAD_MODE_NONE
        c.vocab_only = params.vocab_only
        c.no_alloc = params.no_alloc
        c.use_extra_bufts = not amx_fails()
        if progress.callback is not None:
            c.progress_callback = progress.callback
        return c

    @property
    def handle(self) -> Any:
        if not self._handle:
            raise RuntimeError("the model is closed")
        return self._handle

    @property
    def description(self) -> str:
        return self._string(self._lib.llama_model_desc, 256)

    @property
    def n_params(self) -> int:
        return int(self._lib.llama_model_n_params(self.handle))

    @property
    def size_bytes(self) -> int:
        return int(self._lib.llama_model_size(self.handle))

    @property
    def n_ctx_train(self) -> int:
        return int(self._lib.llama_model_n_ctx_train(self.handle))

    @property
    def n_layer(self) -> int:
        return int(self._lib.llama_model_n_layer(self.handle))

    @property
    def n_head(self) -> int:
        """Query heads of the first layer."""
        return int(self._lib.llama_model_n_head(self.handle))

    @property
    def rope_type(self) -> int:
        """How keys are rotated by their position, as llama.cpp numbers it; -1 where they are not."""
        return int(self._lib.llama_model_rope_type(self.handle))

    @property
    def n_embd(self) -> int:
        return int(self._lib.llama_model_n_embd(self.handle))

    @property
    def n_embd_out(self) -> int:
        """Width of an output embedding; most models' is `n_embd`."""
        return int(self._lib.llama_model_n_embd_out(self.handle))

    @property
    def n_cls_out(self) -> int:
        """Numbers that the output layer for ranking gives."""
        return int(self._lib.llama_model_n_cls_out(self.handle))

    @property
    def is_diffusion(self) -> bool:
        """Whether text is made by filling in masked tokens, over and over."""
        return bool(self._lib.llama_model_is_diffusion(self.handle))

    @property
    def has_decoder(self) -> bool:
        return bool(self._lib.llama_model_has_decoder(self.handle))

    @property
    def has_encoder(self) -> bool:
        return bool(self._lib.llama_model_has_encoder(self.handle))

    @property
    def can_roll_back(self) -> bool:
        """Whether a sequence can be cut at any position; recurrent and hybrid memories cannot."""
        return not (self._lib.llama_model_is_recurrent(self.handle) or self._lib.llama_model_is_hybrid(self.handle))

    @property
    def n_window(self) -> int:
        """Tokens that its layers with a sliding window see, the own one included; 0 where none has one."""
        return int(self._lib.llama_model_n_swa(self.handle))

    def metadata(self, key: str) -> str | None:
        """Return a scalar metadata value as text, or None."""
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            n: int = self._lib.llama_model_meta_val_str(self.handle, key.encode(), buffer, size)
            if n < 0:
                return None
            if n < size:
                return buffer.value.decode("utf-8", "replace")
            size = n + 1

    def metadata_items(self) -> Iterator[tuple[str, str]]:
        """Yield every metadata key with its value as text, in the file's order; arrays are cut short."""
        for index in range(self._lib.llama_model_meta_count(self.handle)):
            key = self._string_at(self._lib.llama_model_meta_key_by_index, index)
            yield key, self._string_at(self._lib.llama_model_meta_val_str_by_index, index)

    def _string_at(self, function: Any, index: int) -> str:
        size = 256
        while (n := function(self.handle, index, buffer := ctypes.create_string_buffer(size), size)) >= size:
            size = n + 1
        return buffer.value.decode("utf-8", "replace")

    def chat_template(self, name: str | None = None) -> str | None:
        """Return the model's own Jinja template, which is untrusted input, or None."""
        raw: bytes | None = self._lib.llama_model_chat_template(self.handle, name.encode() if name else None)
        return raw.decode("utf-8", "replace") if raw else None

    def _string(self, function: Any, size: int) -> str:
        buffer = ctypes.create_string_buffer(size)
        function(self.handle, buffer, size)
        return buffer.value.decode("utf-8", "replace")

    def close(self) -> None:
        """Free the weights; closing twice is harmless."""
        if self._handle:
            if hasattr(self, "vocab"):
                self.vocab.detach()
            self._lib.llama_model_free(self._handle)
            self._handle = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class _Progress:
    """The load's progress callback. An exception cannot pass through C, so it is kept."""

    def __init__(self, on_progress: Callable[[float], bool] | None) -> None:
        self._on_progress = on_progress
        self.error: BaseException | None = None
        self.stopped = False
        self.callback: Any = None if on_progress is None else library().llama_progress_callback(self._call)

    def _call(self, share: float, _data: object) -> bool:
        assert self._on_progress is not None
        try:
            self.stopped = not self._on_progress(share)
        except BaseException as error:
            self.error = error
        return not self.stopped and self.error is None


def load_error(path: Path, log_lines: list[str]) -> ModelLoadFailed | UnsupportedModel:
    """Turn llama.cpp's log of a failed load into one error that says what to do."""
    reasons = [reason(line) for line in log_lines]
    cause = next((r for r in reasons if r and not r.startswith("failed to load model")), "no reason given")
    if "unknown model architecture" in cause or "unknown pre-tokenizer" in cause:
        return UnsupportedModel(
            f"{path.name}: {cause}",
            hint="The installed llama.cpp does not know this model; update localllm, or choose another model.",
        )
    if says_no_memory(log_lines):
        return AllocationFailed(
            f"llama.cpp did not get the memory for {path.name}: {cause}",
            hint="End other programs, or put fewer layers on the GPU with --gpu-layers.",
        )
    return ModelLoadFailed(
        f"llama.cpp cannot load {path.name}: {cause}",
        hint="The file is damaged or was made for another version; download or convert it again.",
    )
