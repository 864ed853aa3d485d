"""A radix tree over token ids: which kept sequences start with the same tokens as this one?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
T = TypeVar("T")


class _Node(Generic[T]):
    __slots__ = ("children", "edge", "values")

    def __init__(self, edge: Tokens) -> None:
        self.edge = edge
        self.children: dict[int, _Node[T]] = {}
        self.values: set[T] = set()


class RadixTree(Generic[T]):
    """Values under token sequences. Every node knows all values at or below it."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node(np.empty(0, dtype=np.int32))

    @property
    def is_empty(self) -> bool:
        return not self._root.values

    def insert(self, tokens: Tokens, value: T) -> None:
        node, depth = self._root, 0
        node.values.add(value)
        while depth < len(tokens):
            child = node.children.get(int(tokens[depth]))
            if child is None:
                child = node.children[int(tokens[depth])] = _Node(tokens[depth:].copy())
            else:
                n = n_common(child.edge, tokens[depth:])
                if n < len(child.edge):
                    child = self._split(node, child, n)
            node = child
            node.values.add(value)
            depth += len(node.edge)

    def remove(self, tokens: Tokens, value: T) -> None:
        """Forget a value that was inserted under exactly these tokens."""
        node, depth = self._root, 0
        node.values.discard(value)
        while depth < len(tokens):
            key = int(tokens[depth])
            child = node.children[key]
            child.values.discard(value)
            if not child.values:
                del node.children[key]
                return
            node = child
            depth += len(node.edge)

    def matches(self, tokens: Tokens) -> Iterator[tuple[int, set[T]]]:
        """Yield (n, values whose tokens share the first n with these), the longest n first."""
        path: list[tuple[int, set[T]]] = []
        node, depth = self._root, 0
        while depth < len(tokens):
            child = node.children.get(int(tokens[depth]))
            if child is None:
                break
            n = n_common(child.edge, tokens[depth:])
            depth += n
            path.append((depth, child.values))
            if n < len(child.edge):
                break
            node = child
        return reversed(path)

    @staticmethod
    def _split(parent: _Node[T], child: _Node[T], n: int) -> _Node[T]:
        upper: _Node[T] = _Node(child.edge[:n])
        upper.values = set(child.values)
        child.edge = child.edge[n:]
        upper.children[int(child.edge[0])] = child
        parent.children[int(upper.edge[0])] = upper
        return upper


class HasTokens(Protocol):
    """A value that knows the tokens it was inserted under."""

    @property
    def tokens(self) -> Tokens: ...


V = TypeVar("V", bound=HasTokens)
MAX_CHAIN = 4
"""Values that serve only in whole, each a beginning of the next: the last turns of one conversation."""


def superseded(chain: Sequence[tuple[int, set[V]]]) -> list[V]:
    """Return the values that a new one makes superfluous, of those that serve only in whole.

    The shortest go, so that with the new one `MAX_CHAIN` remain; but not where something else branches off.

    Args:
        chain: `RadixTree.matches` of the new value's tokens.
    """
    ends = [(n, {v for v in values if len(v.tokens) == n}, values) for n, values in chain]
    on_path = {v for _, here, _ in ends for v in here}
    plain = [v for _, here, values in ends for v in here if values <= on_path]
    return plain[MAX_CHAIN - 1 :]


def n_common(a: Tokens, b: Tokens) -> int:
    """Return the length of the common prefix of two [n] int32 arrays."""
    n = min(len(a), len(b))
    differs = a[:n] != b[:n]
    first = int(differs.argmax()) if n else 0
    return first if n and differs[first] else n


def as_tokens(ids: Sequence[int]) -> Tokens:
    """Return token ids as [n] int32."""
    return np.array(ids, dtype=np.int32)
