"""What a header says before its vocabulary: the cheap part, for showing many models at once.

Finding the end of a vocabulary means walking over every token, some 40 ms for 150,000; what models are called, how
large they are and how they were quantized is written before it. Nothing behind it is looked at, so a glance does not
say that a file is sound: `read_header` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from localllm.gguf.cursor import Cursor
from localllm.gguf.header import read_preamble
from localllm.gguf.source import mapped
from localllm.gguf.values import MetadataValue, read_key, read_value

VOCABULARY_KEY = "tokenizer.ggml.tokens"


def glance(path: Path) -> Mapping[str, MetadataValue]:
    """Return the metadata of a GGUF file up to its vocabulary; all of it, where there is none.

    Raises:
        ModelNotFound: there is no such file.
        InvalidModelFile: it is not a GGUF file, or what was read of it is damaged.
    """
    values: dict[str, MetadataValue] = {}
    with mapped(path) as (data, n_bytes):
        cursor = Cursor(path, data, n_bytes)
        _, _, n_pairs = read_preamble(cursor)
        for index in range(n_pairs):
            key = read_key(cursor, index)
            if key == VOCABULARY_KEY:
                break
            values[key], _ = read_value(cursor, key)
    return values
