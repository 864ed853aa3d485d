"""LoRA adapters in GGUF form."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from localllm.errors import ModelLoadFailed
from localllm.llama.library import first_log_error, last_log_errors, library, path_bytes

if TYPE_CHECKING:
    from localllm.llama.model import Model


class LoraAdapter:
    """A loaded adapter, to be applied to contexts of its model. Close it before the model."""

    def __init__(self, model: Model, path: Path) -> None:
        """Load the file.

        Raises:
            ModelLoadFailed: not an adapter of this model; the message gives llama.cpp's reason.
        """
        self._lib = library()
        last_log_errors(clear=True)
        self._handle: Any = self._lib.llama_adapter_lora_init(model.handle, path_bytes(path))
        if not self._handle:
            raise ModelLoadFailed(
                f"{path.name} is no adapter for this model: {first_log_error()}", hint="Check its base model."
            )
        self.path = path

    @property
    def handle(self) -> Any:
        if not self._handle:
            raise RuntimeError("the adapter is closed")
        return self._handle

    def close(self) -> None:
        """Free the adapter; closing twice is harmless."""
        if self._handle:
            self._lib.llama_adapter_lora_free(self._handle)
            self._handle = None

    def __enter__(self) -> LoraAdapter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
