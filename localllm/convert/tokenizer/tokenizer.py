"""A tokenizer as a GGUF file has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import gguf

from localllm.convert.tokenizer.files import AddedToken, damaged

Kind = Literal["gpt2", "llama", "bert", "t5"]
"""llama.cpp's names: byte-level BPE, SentencePiece's BPE, WordPiece, and Unigram."""
DEFAULT = "default"
"""Name of the chat template that is used where none is asked for."""


@dataclass(frozen=True)
class Vocabulary:
    """What kind of tokenizer it is, and its tokens; the same index is the same token in all lists."""

    kind: Kind
    tokens: list[str]
    types: list[gguf.TokenType]
    pre: str = "default"
    """llama.cpp's name for how text is split before merging."""
    scores: list[float] | None = None
    merges: list[str] | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    """More metadata, by full key."""
    charsmap: bytes | None = None
    """SentencePiece's compiled map of characters."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, and what is put around a text."""

    vocabulary: Vocabulary
    special_ids: Mapping[str, int]
    """"bos", "eos", "unk", "sep", "pad", "mask": the ids that there are."""
    adds: Mapping[str, bool]
    """Whether "bos", "eos" and "sep" are put around a text."""
    chat_templates: Mapping[str, str]
    """Jinja sources by name; the usual one is "default"."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        return self.vocabulary.notes

    def add_metadata(self, writer: gguf.GGUFWriter) -> None:
        """Write it."""
        vocabulary = self.vocabulary
        writer.add_tokenizer_model(vocabulary.kind)
        writer.add_tokenizer_pre(vocabulary.pre)
        writer.add_token_list(vocabulary.tokens)
        if vocabulary.scores is not None:
            writer.add_token_scores(vocabulary.scores)
        writer.add_token_types(vocabulary.types)
        if vocabulary.merges is not None:
            writer.add_token_merges(vocabulary.merges)
        for key, value in vocabulary.flags.items():
            writer.add_bool(key, value)
        if vocabulary.charsmap is not None:
            writer.add_precompiled_charsmap(vocabulary.charsmap)
        for name, id in self.special_ids.items():
            getattr(writer, f"add_{name}_token_id")(id)
        for name, is_added in self.adds.items():
            getattr(writer, f"add_add_{name}_token")(is_added)
        self._add_chat_templates(writer)

    def _add_chat_templates(self, writer: gguf.GGUFWriter) -> None:
        """Write the templates in a fixed order, which `gguf` does not."""
        keys, named = gguf.Keys.Tokenizer, {}
        for name, text in sorted(self.chat_templates.items()):
            if name == DEFAULT:
                writer.add_string(keys.CHAT_TEMPLATE, text)
            else:
                named[re.sub(r"[^A-Za-z0-9]", "_", name)] = text
        for name, text in named.items():
            writer.add_string(keys.CHAT_TEMPLATE_N.format(name=name), text)
        writer.add_array(keys.CHAT_TEMPLATES, list(named))


def listed(
    tokens_by_id: Mapping[int, tuple[str, gguf.TokenType]], added: Sequence[AddedToken], n_vocab: int
) -> tuple[list[str], list[gguf.TokenType], tuple[str, ...]]:
    """Return tokens and types by id, `n_vocab` of each, and notes. Ids that nothing has are filled.

    Args:
        tokens_by_id: the model's own tokens.
        added: tokens that take precedence over those.
        n_vocab: rows of the embedding.

    Raises:
        InvalidCheckpoint: a token of the model has no row in the embedding.
    """
    found = dict(tokens_by_id)
    if found and max(found) >= n_vocab and max(found) not in {token.id for token in added}:
        raise damaged(f"The tokenizer has {max(found) + 1:,} tokens, and the embedding {n_vocab:,} rows")
    for token in added:
        kind = gguf.TokenType.CONTROL if token.is_special else gguf.TokenType.USER_DEFINED
        if found.get(token.id, ("", None))[1] != gguf.TokenType.UNKNOWN:
            found[token.id] = token.text, kind
    left_out = [found[id][0] for id in sorted(found) if id >= n_vocab]
    notes = (f"{len(left_out)} added tokens have no embedding and are left out: {left_out[0]!r} …",) if left_out else ()
    filled = [found.get(id, (f"[PAD{id}]", gguf.TokenType.UNUSED)) for id in range(n_vocab)]
    for text, _ in filled:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise damaged(f"Token {text!r} is no text") from error
    return [text for text, _ in filled], [kind for _, kind in filled], notes
