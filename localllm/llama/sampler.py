"""llama.cpp's sampler chain: it runs in C, one chain a sequence."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.llama.context import Context
from localllm.llama.library import library
from localllm.llama.vocab import Vocab

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama.cpp's llama_token_data."""


class SamplerChain:
    """Samplers in the order they were added; the last one must choose a token, unless only `distribution` is asked.

    `n_alive` counts the chains that have not been closed, so that a leak shows.
    """

    n_alive = 0
    _count_lock = threading.Lock()

    def __init__(self) -> None:
        self._lib = library()
        params = self._lib.llama_sampler_chain_default_params()
        params.no_perf = True
        self._handle: Any = self._lib.llama_sampler_chain_init(params)
        self._sample = self._lib.llama_sampler_sample
        self._room: NDArray[np.void] | None = None
        with SamplerChain._count_lock:
            SamplerChain.n_alive += 1

    @property
    def handle(self) -> Any:
        if not self._handle:
            raise RuntimeError("the sampler chain is closed")
        return self._handle

    def _add(self, sampler: Any) -> None:
        self._lib.llama_sampler_chain_add(self.handle, sampler)

    def add_greedy(self) -> None:
        self._add(self._lib.llama_sampler_init_greedy())

    def add_dist(self, seed: int) -> None:
        """Draw from what the samplers before left."""
        self._add(self._lib.llama_sampler_init_dist(seed))

    def add_temperature(self, temperature: float) -> None:
        self._add(self._lib.llama_sampler_init_temp(temperature))

    def add_top_k(self, k: int) -> None:
        self._add(self._lib.llama_sampler_init_top_k(k))

    def add_top_p(self, p: float) -> None:
        self._add(self._lib.llama_sampler_init_top_p(p, 1))

    def add_min_p(self, p: float) -> None:
        self._add(self._lib.llama_sampler_init_min_p(p, 1))

    def add_typical(self, p: float) -> None:
        self._add(self._lib.llama_sampler_init_typical(p, 1))

    def add_top_n_sigma(self, n: float) -> None:
        self._add(self._lib.llama_sampler_init_top_n_sigma(n))

    def add_xtc(self, probability: float, threshold: float, seed: int) -> None:
        self._add(self._lib.llama_sampler_init_xtc(probability, threshold, 1, seed))

    def add_mirostat(self, n_vocab: int, seed: int, tau: float, eta: float) -> None:
        """Mirostat (Basu et al. 2021) with the paper's m = 100."""
        self._add(self._lib.llama_sampler_init_mirostat(n_vocab, seed, tau, eta, 100))

    def add_mirostat_v2(self, seed: int, tau: float, eta: float) -> None:
        self._add(self._lib.llama_sampler_init_mirostat_v2(seed, tau, eta))

    def add_penalties(self, n_vocab: int, last_n: int, repeat: float, frequency: float, presence: float) -> None:
        """Penalise tokens that were accepted among the last `last_n`; 0 is off, and so, for llama.cpp, is less."""
        self._add(self._lib.llama_sampler_init_penalties(n_vocab, last_n, repeat, frequency, presence))

    def add_dry(
        self,
        vocab: Vocab,
        *,
        multiplier: float,
        base: float,
        allowed_length: int,
        last_n: int,
        breakers: Sequence[str],
    ) -> None:
        """Penalise what would repeat a run of tokens (DRY). `last_n` as for `add_penalties`."""
        texts = (ctypes.c_char_p * len(breakers))(*(b.encode("utf-8", "replace") for b in breakers))
        self._add(
            self._lib.llama_sampler_init_dry(
                vocab.handle, multiplier, base, allowed_length, last_n, texts, len(breakers)
            )
        )

    def add_logit_bias(self, n_vocab: int, bias: Mapping[int, float]) -> None:
        entries = (self._lib.llama_logit_bias * len(bias))()
        for entry, (token, value) in zip(entries, bias.items(), strict=True):
            entry.token, entry.bias = token, value
        self._add(self._lib.llama_sampler_init_logit_bias(n_vocab, len(bias), entries))

    def add_grammar(self, vocab: Vocab, gbnf: str, root: str = "root") -> None:
        """llama.cpp's own grammar. Accepting a token that it forbids ends the process: check first.

        Raises:
            ValueError: the grammar does not parse.
        """
        if not gbnf:
            # llama.cpp takes an empty grammar for none.
            raise ValueError("the grammar does not parse")
        sampler = self._lib.llama_sampler_init_grammar(vocab.handle, gbnf.encode("utf-8", "replace"), root.encode())
        if not sampler:
            raise ValueError("the grammar does not parse")
        self._add(sampler)

    def sample(self, context: Context, index: int) -> int:
        """Choose a token from the logits of the batch's `index`-th token, and accept it."""
        token: int = self._sample(self.handle, context.handle, index)
        return token

    def distribution(self, logits: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Return what the samplers leave, without choosing: for chains whose last sampler does not draw.

        Nothing is accepted: the caller says with `accept` which token it chose.

        Args:
            logits: [n_vocab] float32; only read.

        Returns:
            The token ids that can be drawn, [n] int32 in no order, and their probabilities, [n] float64, above 0 and
            with sum 1.
        """
        candidates = self._candidates(logits)
        array = self._lib.llama_token_data_array()
        array.data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(self._lib.llama_token_data))
        array.size, array.selected, array.sorted = candidates.size, -1, False
        self._lib.llama_sampler_apply(self.handle, ctypes.byref(array))
        # A sampler may have put the candidates elsewhere.
        first = ctypes.addressof(array.data.contents)
        rest = np.frombuffer((ctypes.c_char * (array.size * _CANDIDATE.itemsize)).from_address(first), _CANDIDATE)
        # Not the field p, which samplers after the last softmax have made untrue.
        wide = rest["logit"].astype(np.float64)
        p = np.exp(wide - wide.max()) if np.isfinite(wide.max()) else np.ones(wide.size)
        possible = p > 0
        return rest["id"][possible].copy(), p[possible] / p.sum()

    def _candidates(self, logits: NDArray[np.float32]) -> NDArray[np.void]:
        """Return llama.cpp's array of all tokens; the memory is the chain's."""
        if self._room is None or self._room.size != logits.size:
            self._room = np.empty(logits.size, dtype=_CANDIDATE)
        self._room["id"] = np.arange(logits.size, dtype=np.int32)
        self._room["logit"] = logits
        self._room["p"] = 0.0
        return self._room

    def accept(self, token: int) -> None:
        """Tell the samplers of a token that they did not choose, such as the prompt's."""
        self._lib.llama_sampler_accept(self.handle, token)

    def reset(self) -> None:
        """Forget every accepted token; seeds start over."""
        self._lib.llama_sampler_reset(self.handle)

    def clone(self) -> SamplerChain:
        """Copy the chain with its state."""
        handle = self._lib.llama_sampler_clone(self.handle)
        copy = SamplerChain()
        self._lib.llama_sampler_free(copy._handle)
        copy._handle = handle
        return copy

    def close(self) -> None:
        """Free the samplers; closing twice is harmless."""
        if self._handle:
            self._lib.llama_sampler_free(self._handle)
            self._handle = None
            with SamplerChain._count_lock:
                SamplerChain.n_alive -= 1

    def __enter__(self) -> SamplerChain:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
