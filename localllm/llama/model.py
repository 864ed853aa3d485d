"""A model's weights and facts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from localllm.errors import ModelLoadFailed, UnsupportedModel
from localllm.llama.library import last_log_errors, library
from localllm.llama.vocab import Vocab


@dataclass(frozen=True)
class ModelParams:
    """How to load a model. `n_gpu_layers` below 0 means all."""

    n_gpu_layers: int = 0
    use_mmap: bool = True
    vocab_only: bool = False


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
            on_progress: called with the loaded share, 0 to 1; returning False stops the load.

        Raises:
            UnsupportedModel: llama.cpp does not know the architecture.
            ModelLoadFailed: llama.cpp refused the file; the message gives its reason.
        """
        self._lib = library()
        self._handle: Any = None
        last_log_errors(clear=True)
        self._handle = self._lib.llama_model_load_from_file(str(path).encode(), self._c_params(params, on_progress))
        if not self._handle:
            raise load_error(path, last_log_errors(clear=True))
        self.path = path
        self.vocab = Vocab(self._lib.llama_model_get_vocab(self._handle))

    def _c_params(self, params: ModelParams, on_progress: Callable[[float], bool] | None) -> Any:
        c = self._lib.llama_model_default_params()
        c.n_gpu_layers = params.n_gpu_layers
        c.load_mode = self._lib.LLAMA_LOAD_MODE_MMAP if params.use_mmap else self._lib.LLAMA_LOAD_MODE_NONE
        c.vocab_only = params.vocab_only
        if on_progress is not None:
            self._progress = self._lib.llama_progress_callback(lambda share, _data: on_progress(share))
            c.progress_callback = self._progress
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
    def n_embd(self) -> int:
        return int(self._lib.llama_model_n_embd(self.handle))

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
            self._lib.llama_model_free(self._handle)
            self._handle = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def load_error(path: Path, log_lines: list[str]) -> ModelLoadFailed | UnsupportedModel:
    """Turn llama.cpp's log of a failed load into one error that says what to do."""
    reasons = [_reason(line) for line in log_lines]
    reason = next((r for r in reasons if r and not r.startswith("failed to load model")), "no reason given")
    if "unknown model architecture" in reason or "unknown pre-tokenizer" in reason:
        return UnsupportedModel(
            f"{path.name}: {reason}",
            hint="The installed llama.cpp does not know this model; update localllm, or choose another model.",
        )
    return ModelLoadFailed(
        f"llama.cpp cannot load {path.name}: {reason}",
        hint="The file is damaged or was made for another version; download or convert it again.",
    )


def _reason(line: str) -> str:
    """Strip "function: error loading model: " from a log line."""
    text = line.split("error loading model: ", 1)[-1]
    head, sep, tail = text.partition(": ")
    return (tail if sep and " " not in head else text).strip()
