"""An engine on another machine, as far as it can be a backend: it takes texts, so what speaks of tokens is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from localllm.engine.request import GenerationRequest
from localllm.engine.stats import EngineStats
from localllm.engine.vectors import VectorsSink
from localllm.errors import RequestError
from localllm.remotes import RemoteClient
from localllm.runtime.backend import EmbedRequest, ModelInfo, RankRequest, Sink, TextControls


class RemoteBackend:
    """What `localllm.LLM` asks a backend for, where the model is on a remote.

    Args:
        client: of the remote.

    Raises:
        LocalLLMError: the remote does not answer, refuses, or does not have the model.
    """

    def __init__(self, client: RemoteClient) -> None:
        self._name = client.remote.name
        self._info = _info(client)
        self._is_alive = True

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def is_alive(self) -> bool:
        return self._is_alive

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        self._refuse("Tokens")

    def detokenize(self, tokens: Sequence[int]) -> bytes:
        self._refuse("Tokens")

    def submit(self, request: GenerationRequest, controls: TextControls, sink: Sink) -> int:
        self._refuse("Prompts of tokens")

    def embed(self, request: EmbedRequest, sink: VectorsSink) -> int:
        self._refuse("Embeddings")

    def rank(self, request: RankRequest, sink: VectorsSink) -> int:
        self._refuse("Rankings")

    def cancel(self, request_id: int) -> None:
        """Do nothing: answers of remotes are streams, which are closed."""

    def stats(self) -> EngineStats:
        return EngineStats.zero()

    def close(self) -> None:
        self._is_alive = False

    def _refuse(self, what: str) -> NoReturn:
        raise RequestError(f"{what} are not asked of a remote ({self._name}).", hint="Use a model on this machine.")


def _info(client: RemoteClient) -> ModelInfo:
    """Return what is known of a remote's model; counts are 0 where the server does not tell."""
    card = client.card
    return ModelInfo(
        path=f"@{client.remote.name}/{card.id}",
        name=card.id,
        description=f"{client.engine.name} at {client.remote.root_url}",
        architecture="",
        n_params=0,
        size_bytes=0,
        n_vocab=0,
        n_ctx=card.n_ctx,
        n_cells=0,
        n_ctx_train=0,
        n_slots=0,
        n_gpu_layers=0,
        kv_type_k="",
        kv_type_v="",
        chat_template=None,
        bos_text="",
        eos_text="",
        add_bos=False,
        load_s=0.0,
    )
