"""Grammars over tokens, by llguidance: which tokens may come next, given the text so far.

A control token is never part of what a grammar generates; the tokens that end a turn are allowed exactly
where the grammar is satisfied. Where llguidance gives up (a grammar too complex, a token that it forbids),
generation fails: text that merely looks constrained is never let through.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from localllm.chat.gbnf import gbnf_to_lark
from localllm.chat.schema import JSON_OPTIONS, MAX_GRAMMAR_CHARS, checked_schema
from localllm.errors import InvalidGrammar

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KINDS = ("json_schema", "json_object", "gbnf", "regex", "lark")

_N_KEPT_GRAMMARS = 32
_MAX_REASON_CHARS = 400
_NEG_INF = np.float32(-np.inf)


class VocabView(Protocol):
    """What a grammar needs to know of a model's vocabulary."""

    @property
    def n_vocab(self) -> int: ...

    @property
    def end_tokens(self) -> Sequence[int]:
        """All tokens that end the model's turn, at least one."""

    def piece(self, token: int, special: bool = True) -> bytes:
        """Return the bytes of a token; with `special`, a control token's spelling too."""

    def is_control(self, token: int) -> bool:
        """Whether the token is a control token, which no text contains."""

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of plain text: no beginning token, control tokens not parsed."""


class GrammarConstraint:
    """One generation's place in a grammar; an `engine.matchers.TokenConstraint`. For one thread at a time."""

    __slots__ = ("_bits", "_bits_address", "_ends", "_forbidden", "_matcher", "_n_ended", "_n_vocab")

    def __init__(self, matcher: LLMatcher, n_vocab: int, end_tokens: Sequence[int]) -> None:
        # End tokens are kept from the matcher, which takes them only where more text could follow too.
        self._matcher = matcher
        self._n_vocab = n_vocab
        self._ends = list(end_tokens)
        self._n_ended = 0
        words = np.zeros((n_vocab + 31) // 32, dtype=np.uint32)
        self._bits = words.view(np.uint8)
        self._bits_address = words.ctypes.data
        self._forbidden = np.empty_like(self._bits)

    def mask_logits(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of forbidden tokens to -inf, in place. `logits` is [n_vocab] float32.

        Raises:
            InvalidGrammar: the grammar turned out too complex.
        """
        self._matcher.unsafe_compute_mask_ptr(self._bits_address, self._bits.nbytes)
        self._check()
        np.invert(self._bits, out=self._forbidden)
        forbidden = np.unpackbits(self._forbidden, count=self._n_vocab, bitorder="little")
        if self._n_ended:
            forbidden.fill(1)
            forbidden[self._ends] = 0
        np.copyto(logits, _NEG_INF, where=forbidden.view(np.bool_))

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        if token in self._ends:
            return self._matcher.is_accepting()
        return not self._n_ended and 0 <= token < self._n_vocab and self._matcher.validate_tokens([token]) == 1

    def n_allowed(self, tokens: Sequence[int]) -> int:
        """Return how many of `tokens`, from the first on, may come next one after the other."""
        n_accepted = 0
        for token in tokens:
            if not self.allows(token):
                break
            self.accept(token)
            n_accepted += 1
        self.rollback(n_accepted)
        return n_accepted

    def accept(self, token: int) -> None:
        """Advance by one token, which must be allowed.

        Raises:
            InvalidGrammar: it is not.
        """
        self._check()
        if not self.allows(token):
            raise InvalidGrammar(f"The grammar does not allow token {token}.", hint="Mask the logits first.")
        if token in self._ends:
            self._n_ended += 1
        elif not self._matcher.consume_token(token):
            self._check()

    def rollback(self, n_tokens: int) -> None:
        """Take back the last `n_tokens` accepted tokens.

        Raises:
            InvalidGrammar: there are not that many.
        """
        n_ended = min(n_tokens, self._n_ended)
        self._n_ended -= n_ended
        if n_tokens > n_ended and not self._matcher.rollback(n_tokens - n_ended):
            self._check()

    @property
    def is_complete(self) -> bool:
        """Whether nothing may follow but the end of the turn."""
        return (self._n_ended > 0 or self._matcher.is_stopped()) and not self._matcher.is_error()

    @property
    def is_accepting(self) -> bool:
        """Whether the turn may end here."""
        return self._matcher.is_accepting()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InvalidGrammar(
                f"The grammar failed while generating: {_first_line(self._matcher.get_error())}",
                hint="Simplify the grammar.",
            )


class _Tokens:
    """The vocabulary in the shape that llguidance asks for."""

    bos_token_id = None

    def __init__(self, vocab: VocabView) -> None:
        ends = set(vocab.end_tokens)
        ids = range(vocab.n_vocab)
        self.eos_token_id = vocab.end_tokens[0]
        self.tokens = [vocab.piece(token) for token in ids]
        self.special_token_ids = [token for token in ids if token in ends or vocab.is_control(token)]
        self._vocab = vocab
        self._single = {piece: token for token, piece in enumerate(self.tokens) if len(piece) == 1}

    def __call__(self, text: str | bytes) -> list[int]:
        """Tokenize; where the tokenizer adds a space or normalizes, so that it misspells `text`, in bytes."""
        data = text.encode() if isinstance(text, str) else text
        try:
            tokens = self._vocab.tokenize(data.decode())
        except UnicodeDecodeError:
            tokens = []
        if b"".join(self.tokens[token] for token in tokens) == data:
            return tokens
        return [self._single[bytes([byte])] for byte in data if bytes([byte]) in self._single]


class GrammarCompiler:
    """Compiles grammars for one vocabulary. May be used from several threads.

    Args:
        vocab: the model's vocabulary, read on the first grammar (up to a second for 250,000 tokens).
    """

    def __init__(self, vocab: VocabView) -> None:
        self._vocab = vocab
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[tuple[str, str, str], LLMatcher] = OrderedDict()

    def compile(self, kind: str, text: str = "", *, preamble: str = "") -> GrammarConstraint:
        """Return a constraint at the beginning of a grammar.

        Args:
            kind: "json_schema", "json_object", "gbnf", "regex" or "lark".
            text: the grammar; not read for "json_object", which is any JSON object.
            preamble: a Lark grammar of what comes first; "" for nothing.

        Raises:
            InvalidGrammar: the grammar cannot be read, or cannot be enforced in full.
        """
        with self._lock:
            key = (kind, text, preamble)
            matcher = self._compiled.get(key)
            if matcher is None:
                matcher = self._compiled[key] = self._compile(*key)
            self._compiled.move_to_end(key)
            if len(self._compiled) > _N_KEPT_GRAMMARS:
                self._compiled.popitem(last=False)
            return GrammarConstraint(matcher.deep_copy(), self._vocab.n_vocab, self._vocab.end_tokens)

    def _compile(self, kind: str, text: str, preamble: str) -> LLMatcher:
        from llguidance import LLMatcher

        if len(text) > MAX_GRAMMAR_CHARS:
            raise InvalidGrammar(
                f"The grammar has {len(text)} characters, {MAX_GRAMMAR_CHARS} allowed.",
                hint="Make it smaller.",
            )
        source = _source(kind, text)
        if preamble:
            source = _after(preamble, source)
        tokenizer = self._llguidance_tokenizer()
        _, complaints = LLMatcher.validate_grammar_with_warnings(source, tokenizer)
        matcher = LLMatcher(tokenizer, source, log_level=0)
        if not complaints and not matcher.is_error():
            # That a grammar generates nothing, or is too complex, may show only at the first token.
            matcher.compute_bitmask()
        if complaints or matcher.is_error():
            reason = _first_line(complaints[0] if complaints else matcher.get_error())
            raise InvalidGrammar(f"The {kind} grammar cannot be honoured: {reason}", hint=_hint(kind))
        return matcher

    def _llguidance_tokenizer(self) -> LLTokenizer:
        if self._tokenizer is None:
            from llguidance import LLTokenizer, TokenizerWrapper

            ends = list(self._vocab.end_tokens)
            self._tokenizer = LLTokenizer(TokenizerWrapper(_Tokens(self._vocab)), eos_token=ends)
        return self._tokenizer


def check_json_schema(text: str) -> None:
    """Check that a JSON schema can be enforced in full; no vocabulary is needed for that.

    Raises:
        InvalidGrammar: it cannot; the message says why.
    """
    from llguidance import LLMatcher

    _, complaints = LLMatcher.validate_grammar_with_warnings(_source("json_schema", text), None)
    if complaints:
        raise InvalidGrammar(
            f"The json_schema grammar cannot be honoured: {_first_line(complaints[0])}", hint=_hint("json_schema")
        )


def _source(kind: str, text: str) -> str:
    from llguidance import LLMatcher

    if kind in ("json_schema", "json_object"):
        schema = checked_schema(text) if kind == "json_schema" else '{"type": "object"}'
        try:
            return LLMatcher.grammar_from_json_schema(schema, overrides=JSON_OPTIONS)
        except ValueError as error:
            raise InvalidGrammar(
                f"The {kind} grammar cannot be honoured: {_first_line(str(error))}", hint=_hint(kind)
            ) from error
    if kind == "gbnf":
        return LLMatcher.grammar_from_lark(gbnf_to_lark(text))
    if kind == "regex":
        return LLMatcher.grammar_from_regex(text)
    if kind == "lark":
        return LLMatcher.grammar_from_lark(text)
    raise InvalidGrammar(f"Unknown kind of grammar {kind!r}.", hint=f"One of {', '.join(KINDS)}.")


def _after(preamble: str, source: str) -> str:
    """Return the grammar of a text of `preamble` and then one of `source`."""
    is_lark = not source.startswith("{")
    answer = {"lark_grammar": source} if is_lark else json.loads(source)["grammars"][0]
    first = {"lark_grammar": "start: before @answer\nbefore: @before"}
    return json.dumps({"grammars": [first, {"name": "before", "lark_grammar": preamble}, {**answer, "name": "answer"}]})


def _hint(kind: str) -> str:
    if kind == "json_schema":
        return "Leave the keyword out, or say the same with others."
    return f"Check it against the notation of {kind} grammars."


def _first_line(reason: str) -> str:
    """Return llguidance's reason without the state and the grammar that it may append."""
    line = " ".join(reason.split("<state>")[0].split("<backtrace>")[0].split())
    return line if len(line) <= _MAX_REASON_CHARS else f"{line[:_MAX_REASON_CHARS]}…"
