"""Lookup: what followed the last time, in prompt or output, the sequence was as it is now.

The end of the sequence is matched with an earlier place; what follows there is the draft. While it proves right, the
match is followed and grows longer, and with its length the certainty that it goes on. Where a long copy departs from
its source (an edit), the place is remembered, and the copy is taken up again where source and output agree next.

Source: prompt lookup decoding (Saxena 2023) and REST (He et al. 2023), which draft a fixed length; here the length is
the controller's, and a match is scored by its own length, as in SuffixDecoding (Oliaro et al. 2024).
"""

from __future__ import annotations

from collections.abc import Sequence

from localllm.engine.speculation.acceptance import Acceptance
from localllm.engine.speculation.shared_texts import SharedTexts
from localllm.hardware.types import MAX_DRAFT_TOKENS

ORDERS = (6, 3, 2)
"""Lengths of the indexed n-grams, the longest first."""
_MAX_LENGTH = 128
"""Longer matches are counted as this long."""
_LONG_COPY = 16
_MIN_COPY = 8
"""A match of this many tokens is a copy, whose source is worth remembering where it ends."""
_RESUME_WINDOW = 48
"""Tokens of output, and of the source, within which a copy is taken up again."""
_PROMPT_CHUNK = 2048
"""Prompt tokens that are indexed in one step, about 5 ms."""

_LENGTHS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""A grade is for match lengths from one of these to the next."""
_PRIORS = (0.4, 0.5, 0.65, 0.8, 0.87, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99)
_RESUMED_LENGTHS = (1, 2, 3, 5, 8)
_RESUMED_PRIORS = (0.65, 0.75, 0.85, 0.9, 0.93)
_RETURN_PRIORS = (0.88, 0.92, 0.94, 0.96, 0.97)
"""... where the copy was at least `_LONG_COPY` tokens long when it was lost."""
_DOUBTFUL_LENGTHS = (1, 4, 8, 16)
_DOUBTFUL_PRIORS = (0.25, 0.35, 0.5, 0.6)
"""Of tokens at which a copy departed from its source before: the source's own copy, or another of the same token."""
GRADE_PRIORS = (*_PRIORS, *_RESUMED_PRIORS, *_RETURN_PRIORS, *_DOUBTFUL_PRIORS)


def _grade_table(lengths: Sequence[int], first: int, size: int) -> tuple[int, ...]:
    return tuple(first + max(0, sum(length >= low for low in lengths) - 1) for length in range(size))


_GRADES = _grade_table(_LENGTHS, 0, _MAX_LENGTH + MAX_DRAFT_TOKENS + 1)
_DOUBTFUL_GRADES = _grade_table(_DOUBTFUL_LENGTHS, len(GRADE_PRIORS) - len(_DOUBTFUL_PRIORS), len(_GRADES))
_RESUMED_GRADES = _grade_table(_RESUMED_LENGTHS, len(_PRIORS), 2 * _MIN_COPY)
"""... from this many tokens on, a resumed copy is a match like others."""
_RETURN_GRADES = tuple(grade + len(_RESUMED_PRIORS) for grade in _RESUMED_GRADES)


class NgramIndex:
    """Where each n-gram of `ORDERS` last occurred before the end of the tokens; constant work for each token."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self._follows: tuple[dict[tuple[int, ...], int], ...] = tuple({} for _ in ORDERS)

    def append(self, token: int) -> None:
        """Add a token. The n-grams that end before it have a continuation now, and are entered."""
        tokens = self.tokens
        n = len(tokens)
        for order, follows in zip(ORDERS, self._follows, strict=True):
            if n >= order:
                follows[tuple(tokens[n - order :])] = n
        tokens.append(token)

    def lookup(self) -> int | None:
        """Return the position after the latest earlier occurrence of the longest n-gram that ends the tokens."""
        tokens = self.tokens
        n = len(tokens)
        for order, follows in zip(ORDERS, self._follows, strict=True):
            if n >= order and (found := follows.get(tuple(tokens[n - order :]))) is not None:
                return found
        return None

    def common_length(self, position: int, text: Sequence[int] | None = None) -> int:
        """Return how many tokens before `position` equal those at the end, `_MAX_LENGTH` at most.

        Args:
            position: in `text`.
            text: another sequence; None is this one.
        """
        tokens = self.tokens
        text = tokens if text is None else text
        n, length = len(tokens), 0
        limit = min(position, n, _MAX_LENGTH)
        while length < limit and text[position - 1 - length] == tokens[n - 1 - length]:
            length += 1
        return length


class NgramDrafter:
    """Follows the longest match of a sequence's end within the sequence itself.

    Args:
        pool: other sequences, where to look for what does not occur in this one; None looks nowhere else.
    """

    kind = "ngram"

    def __init__(self, pool: SharedTexts | None = None) -> None:
        self._index = NgramIndex()
        self._pool = pool
        self._pooled: list[int] | None = None
        self._n_prompt: int | None = None
        self._source: int | None = None
        """The position in `_text` whose token is proposed next."""
        self._length = 0
        self._is_resumed = False
        self._lost: int | None = None
        self._lost_until = 0
        self._lost_length = 0
        self._surprises: set[int] = set()
        self._missed: set[int] = set()

    @property
    def match(self) -> tuple[int, int] | None:
        """The position in `_text` whose token is proposed next, and how many tokens before it match; None without."""
        return None if self._source is None else (self._source, self._length)

    @property
    def _text(self) -> list[int]:
        """What the match is in: this sequence, or one of the pool."""
        return self._index.tokens if self._pooled is None else self._pooled

    def follow(self, tokens: Sequence[int], acceptance: Acceptance) -> bool:
        index = self._index
        if self._n_prompt is None:
            self._n_prompt = len(tokens)
        n = len(index.tokens)
        if n < self._n_prompt:
            for token in tokens[n : min(n + _PROMPT_CHUNK, self._n_prompt)]:
                index.append(token)
            n = len(index.tokens)
            if n < self._n_prompt:
                return False
            self._find(acceptance)
        for token in tokens[n:]:
            self._advance(token, acceptance)
        return True

    def grades(self) -> Sequence[int]:
        source, length = self._source, self._length
        if source is None:
            return ()
        grades = list(_GRADES[length : length + MAX_DRAFT_TOKENS])
        if self._is_resumed:
            resumed = self._resumed_grades[length:]
            grades[: len(resumed)] = resumed
        draft = self.propose(MAX_DRAFT_TOKENS)
        for i, token in enumerate(draft):
            if token in self._missed or self._is_surprise(source + i):
                grades[i] = _DOUBTFUL_GRADES[length + i]
        return grades[: len(draft)]

    def propose(self, n: int) -> list[int]:
        assert self._source is not None
        tokens = self._text
        draft = tokens[self._source : self._source + n]
        if self._pooled is not None:
            return draft
        # A source that reaches the end goes on with the draft itself: the text repeats with that period.
        while len(draft) < n:
            draft.append(draft[len(draft) - (len(tokens) - self._source)])
        return draft

    def close(self) -> None:
        """Leave what was said to later sequences."""
        if self._pool is not None:
            self._pool.add(self._index.tokens)
            self._pool = None

    def _advance(self, token: int, acceptance: Acceptance) -> None:
        source, index = self._source, self._index
        if source is None:
            index.append(token)
            self._find(acceptance)
            return
        proposed = self._text[source]
        is_hit = proposed == token
        acceptance.count(self._grade(source, proposed), is_hit)
        self._remember(proposed, is_hit)
        index.append(token)
        if is_hit and source + 1 < len(self._text):
            self._source = source + 1
            self._length = min(self._length + 1, _MAX_LENGTH)
            self._is_resumed = self._is_resumed and self._length < len(_RESUMED_GRADES)
            return
        if self._length >= _MIN_COPY and self._pooled is None:
            self._lost, self._lost_until = source, len(index.tokens) + _RESUME_WINDOW
            self._lost_length = self._length
        self._find(acceptance)

    def _grade(self, source: int, proposed: int) -> int:
        """Return the grade of the next token alone."""
        if proposed in self._missed or self._is_surprise(source):
            return _DOUBTFUL_GRADES[self._length]
        return (self._resumed_grades if self._is_resumed else _GRADES)[self._length]

    def _is_surprise(self, position: int) -> bool:
        return self._pooled is None and position in self._surprises

    @property
    def _resumed_grades(self) -> tuple[int, ...]:
        return _RETURN_GRADES if self._lost_length >= _LONG_COPY else _RESUMED_GRADES

    def _remember(self, proposed: int, is_hit: bool) -> None:
        """Keep where copies depart: what comes now is a surprise, and the token that was proposed was wrong."""
        if is_hit:
            self._missed.discard(proposed)
        else:
            self._missed.add(proposed)
            self._surprises.add(len(self._index.tokens))

    def _find(self, acceptance: Acceptance) -> None:
        """Match the end anew: with a long n-gram, or where a lost copy may go on, or with a short n-gram.

        Before a short n-gram, a long one is looked for in the pool.
        """
        index = self._index
        self._pooled, self._is_resumed = None, False
        self._source, self._length = index.lookup(), 0
        if self._source is not None:
            self._length = index.common_length(self._source)
        if self._length >= ORDERS[0]:
            return
        if (resumed := self._resumption()) is None:
            self._find_in_pool()
            return
        length = min(index.common_length(resumed), len(_RESUMED_GRADES) - 1)
        if self._source is None or acceptance.rate(self._resumed_grades[length]) >= acceptance.rate(
            _GRADES[self._length]
        ):
            self._source, self._length, self._is_resumed = resumed, length, True

    def _find_in_pool(self) -> None:
        """Match the end with a long n-gram of another sequence, if there is one."""
        found = None if self._pool is None else self._pool.lookup(self._index.tokens)
        if found is not None:
            self._pooled, self._source = found
            self._length = self._index.common_length(self._source, self._pooled)

    def _resumption(self) -> int | None:
        """Return where the source of a lost copy goes on like the end; near its place, the longest match."""
        tokens, lost = self._index.tokens, self._lost
        if lost is None or len(tokens) > self._lost_until:
            return None
        end = min(lost + _RESUME_WINDOW, len(tokens) - 1)
        best, best_length, at = None, 0, lost
        while at < end:
            try:
                at = tokens.index(tokens[-1], at, end) + 1
            except ValueError:
                break
            length = self._index.common_length(at)
            if length > best_length:
                best, best_length = at, length
        return best
