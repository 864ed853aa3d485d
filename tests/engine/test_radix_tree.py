from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localllm.engine.radix_tree import RadixTree, as_tokens, n_common

Ids = st.lists(st.integers(0, 2), max_size=12)


def best(stored: list[list[int]], query: list[int]) -> int:
    return max((n_common(as_tokens(s), as_tokens(query)) for s in stored), default=0)


@given(st.lists(Ids, max_size=12), Ids)
def test_longest_match_equals_brute_force(stored: list[list[int]], query: list[int]) -> None:
    tree: RadixTree[int] = RadixTree()
    for i, tokens in enumerate(stored):
        tree.insert(as_tokens(tokens), i)
    n, values = next(iter(tree.matches(as_tokens(query))), (0, set()))
    assert n == best(stored, query)
    for i in values:
        assert n_common(as_tokens(stored[i]), as_tokens(query)) >= n


@given(st.lists(Ids, min_size=1, max_size=12), st.data())
def test_removed_values_are_never_matched(stored: list[list[int]], data: st.DataObject) -> None:
    tree: RadixTree[int] = RadixTree()
    for i, tokens in enumerate(stored):
        tree.insert(as_tokens(tokens), i)
    gone = data.draw(st.sets(st.integers(0, len(stored) - 1)))
    for i in gone:
        tree.remove(as_tokens(stored[i]), i)
    left = [s for i, s in enumerate(stored) if i not in gone]
    for query in stored:
        n, values = next(iter(tree.matches(as_tokens(query))), (0, set()))
        assert n == best(left, query)
        assert not values & gone


@given(Ids, Ids)
def test_common_prefix_length(a: list[int], b: list[int]) -> None:
    n = n_common(as_tokens(a), as_tokens(b))
    assert a[:n] == b[:n]
    assert n == min(len(a), len(b)) or a[n] != b[n]
