"""What the catalog knows of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from localllm.errors import ModelNotFound
from localllm.hub.preference import place_of

KINDS = ("chat", "code", "reasoning", "embedding", "rerank")


@dataclass(frozen=True)
class CatalogFile:
    """A file of a repository, or a part of a model that is split."""

    path: str
    n_bytes: int
    """Its size."""
    is_exact: bool
    """Whether the size is known to the byte; else it is rounded, to a tenth of a GiB, or of a MiB below one GiB."""


@dataclass(frozen=True)
class Sampling:
    """What a model's maker recommends; None where he says nothing."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None


@dataclass(frozen=True)
class CatalogEntry:
    """A model. None stands for what is not known."""

    name: str
    """Short, in lower case, as people type it."""
    title: str
    kind: str
    """One of KINDS."""
    repo: str
    """ "org/name" on the hub."""
    good_at: str = ""
    """One line."""
    license: str | None = None
    """Its SPDX identifier, or the name of its licence."""
    gated: bool | None = None
    """Whether the hub gives it only to those who accepted its terms."""
    n_params: int | None = None
    n_active_params: int | None = None
    """Parameters that a token passes through, where that is not all of them: mixtures of experts and the like."""
    n_layers: int | None = None
    n_heads: int | None = None
    n_kv_heads: int | None = None
    head_dim: int | None = None
    n_embd: int | None = None
    """Width between the layers; of an embedding model, the length of its vectors."""
    n_ctx: int | None = None
    """Tokens that it was trained for."""
    sampling: Sampling = Sampling()
    files_by_tag: Mapping[str, tuple[CatalogFile, ...]] = field(default_factory=dict)
    """Quantization to file, or to all parts in order."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The quantizations whose files are known."""
        return tuple(self.files_by_tag)

    @property
    def default_tag(self) -> str | None:
        """The quantization that is meant where none is named; None if no files are known."""
        return min(self.tags, key=place_of, default=None)

    def tag(self, tag: str | None = None) -> str | None:
        """Return a quantization as the catalog writes it; without one, the default.

        Raises:
            ModelNotFound: files are known, and none has this quantization.
        """
        if tag is None:
            return self.default_tag
        if not self.files_by_tag or tag.upper() in self.files_by_tag:
            return tag.upper()
        from localllm.gguf.problems import printable

        near = get_close_matches(tag.upper(), self.tags, n=1)
        guess = f" Did you mean {self.name}:{near[0]}?" if near else ""
        raise ModelNotFound(
            f"The catalog has {self.name} as {', '.join(self.tags)}, not as {printable(tag)}.{guess}",
            hint=f"For a file that it does not list, name the repository: {self.repo}:{printable(tag)}",
        )

    def files(self, tag: str | None = None) -> tuple[CatalogFile, ...]:
        """Return the file of a quantization, or all its parts in order; none if no files are known.

        Raises:
            ModelNotFound: as `tag`.
        """
        return self.files_by_tag.get(self.tag(tag) or "", ())

    def n_bytes(self, tag: str | None = None) -> int | None:
        """Return the size of a quantization, all parts together; None if it is not known.

        Raises:
            ModelNotFound: as `tag`.
        """
        files = self.files(tag)
        return sum(file.n_bytes for file in files) if files else None
