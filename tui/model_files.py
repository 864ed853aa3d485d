"""The files that a model can be fetched as: a quantization each, with whether it fits here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui.model_plans import Plans, Verdict
from tui.model_rows import ModelRow

if TYPE_CHECKING:
    from localllm.hub.choice import Model


@dataclass(frozen=True)
class ModelFile:
    """One way to have a model."""

    ref: str
    """What fetches it."""
    quantization: str
    n_bytes: int
    verdict: Verdict


def files_of(row: ModelRow, plans: Plans) -> list[ModelFile]:
    """Return the files of a model, best quantization first. Slow, and may ask the hub: call it on a thread.

    Raises:
        LocalLLMError: the hub cannot be asked, or has none.
    """
    return known_files(row, plans) or _judged(row, plans, _asked(row))


def known_files(row: ModelRow, plans: Plans) -> list[ModelFile]:
    """Return the files of a model that the catalog knows, best quantization first; none if it knows none."""
    return _judged(row, plans, _known(row))


def recommended(files: Sequence[ModelFile]) -> int:
    """Return which file to take: the first that fits, in the order of preference; else the smallest."""
    fitting = [index for index, file in enumerate(files) if file.verdict.fits]
    return fitting[0] if fitting else min(range(len(files)), key=lambda index: files[index].n_bytes, default=0)


def _judged(row: ModelRow, plans: Plans, files: Iterable[tuple[str, str, int]]) -> list[ModelFile]:
    return [ModelFile(ref, tag, n_bytes, plans.judge_size(row, n_bytes)) for ref, tag, n_bytes in files]


def _known(row: ModelRow) -> list[tuple[str, str, int]]:
    """Return what the catalog says; nothing where it does not know the files."""
    from localllm.hub.preference import place_of

    entry = row.entry
    if entry is None:
        return []
    tags = sorted(entry.tags, key=place_of)
    return [(f"{entry.name}:{tag}", tag, n_bytes) for tag in tags if (n_bytes := entry.n_bytes(tag))]


def _asked(row: ModelRow) -> Iterator[tuple[str, str, int]]:
    """Yield what the hub says of a repository."""
    from localllm.errors import HubNotFound
    from localllm.hub.choice import models_of
    from localllm.hub.client import HubClient

    models = [model for model in models_of(HubClient().repo(row.repo).files) if not model.n_missing]
    if not models:
        raise HubNotFound(f"{row.repo} holds no GGUF model.", hint="Look for another: / and then h.")
    n_of_tag = Counter(model.quantization for model in models)
    for model in models:
        is_only = model.quantization is not None and n_of_tag[model.quantization] == 1
        yield _ref(row.repo, model, is_only=is_only), model.quantization or model.name, model.n_bytes


def _ref(repo: str, model: Model, *, is_only: bool) -> str:
    return f"{repo}:{model.quantization}" if is_only else f"hf://{repo}/{model.name}"
