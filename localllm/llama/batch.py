"""One batch of tokens for llama_decode, filled through arrays that Python and C share."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localllm.llama.library import library


class Batch:
    """Up to `capacity` tokens, each with a position and one sequence, or several that share it.

    The arrays belong to NumPy; the C struct only points at them, so there is nothing to free.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.n_tokens = 0
        self.n_outputs = 0
        """How many of its tokens want logits."""
        self._token = np.zeros(capacity, dtype=np.int32)
        self._pos = np.zeros(capacity, dtype=np.int32)
        self._n_seq_id = np.ones(capacity, dtype=np.int32)
        self._seq_id = np.zeros(capacity, dtype=np.int32)
        self._logits = np.zeros(capacity, dtype=np.int8)
        self._seq_id_rows = self._seq_id.ctypes.data + 4 * np.arange(capacity, dtype=np.uint64)
        self._shared: dict[int, NDArray[np.int32]] = {}
        self._struct = self._make_struct()

    def _make_struct(self) -> Any:
        int_p = ctypes.POINTER(ctypes.c_int32)
        c = library().llama_batch()
        c.n_tokens = 0
        c.token = ctypes.cast(self._token.ctypes.data, int_p)
        c.embd = None
        c.pos = ctypes.cast(self._pos.ctypes.data, int_p)
        c.n_seq_id = ctypes.cast(self._n_seq_id.ctypes.data, int_p)
        c.seq_id = ctypes.cast(self._seq_id_rows.ctypes.data, ctypes.POINTER(int_p))
        c.logits = ctypes.cast(self._logits.ctypes.data, ctypes.POINTER(ctypes.c_int8))
        return c

    @property
    def struct(self) -> Any:
        """The `llama_batch` of what has been added."""
        self._struct.n_tokens = self.n_tokens
        return self._struct

    def clear(self) -> None:
        for i in self._shared:
            self._n_seq_id[i] = 1
            self._seq_id_rows[i] = self._seq_id.ctypes.data + 4 * i
        self._shared.clear()
        self.n_tokens = self.n_outputs = 0

    def add(self, token: int, pos: int, seq_id: int, *, wants_logits: bool) -> int:
        """Add one token and return its index, by which its logits are read.

        Raises:
            ValueError: the batch is full.
        """
        i = self.n_tokens
        if i >= self.capacity:
            raise ValueError(f"{i + 1} tokens in a batch of {self.capacity}")
        self._token[i] = token
        self._pos[i] = pos
        self._seq_id[i] = seq_id
        self._logits[i] = wants_logits
        self.n_outputs += wants_logits
        self.n_tokens = i + 1
        return i

    def add_shared(self, token: int, pos: int, seq_ids: Sequence[int], *, wants_logits: bool) -> int:
        """Add one token that takes one cell of several sequences; return its index.

        Raises:
            ValueError: the batch is full, or there is no sequence.
        """
        if not seq_ids:
            raise ValueError("a token of no sequence")
        i = self.add(token, pos, seq_ids[0], wants_logits=wants_logits)
        if len(seq_ids) > 1:
            self._shared[i] = np.array(seq_ids, dtype=np.int32)
            self._n_seq_id[i] = len(seq_ids)
            self._seq_id_rows[i] = self._shared[i].ctypes.data
        return i

    def add_run(self, tokens: Sequence[int], pos: int, seq_id: int, *, last_wants_logits: bool) -> int:
        """Add consecutive tokens of one sequence, the first at `pos`; return the index of the last.

        Raises:
            ValueError: there are no tokens, or more than the batch has room for.
        """
        i, j = self.n_tokens, self.n_tokens + len(tokens)
        if i == j or j > self.capacity:
            raise ValueError(f"{len(tokens)} more tokens in a batch with {i} of {self.capacity}")
        self._token[i:j] = tokens
        self._pos[i:j] = np.arange(pos, pos + len(tokens), dtype=np.int32)
        self._seq_id[i:j] = seq_id
        self._logits[i:j] = 0
        self._logits[j - 1] = last_wants_logits
        self.n_outputs += last_wants_logits
        self.n_tokens = j
        return j - 1

    def add_outputs(self, tokens: Sequence[int], pos: int, seq_id: int) -> int:
        """Add consecutive tokens of one sequence that all want their output; return the index of the first.

        Raises:
            ValueError: there are no tokens, or more than the batch has room for.
        """
        last = self.add_run(tokens, pos, seq_id, last_wants_logits=True)
        first = last - len(tokens) + 1
        self._logits[first:last] = 1
        self.n_outputs += last - first
        return first
