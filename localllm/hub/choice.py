"""Which files of a repository somebody means: a quantization, all parts of it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from localllm.errors import HubNotFound, RequestError
from localllm.gguf.problems import printable
from localllm.hub.client import RepoFile
from localllm.hub.file_names import is_model, quantization_of, shard_of
from localllm.hub.preference import place_of
from localllm.hub.refs import RepoRef

N_LISTED_MAX = 12


@dataclass(frozen=True)
class Model:
    """A model of a repository: one file, or all parts of it."""

    quantization: str | None
    files: tuple[RepoFile, ...]
    """In order."""
    n_missing: int = 0
    """Parts that the repository lacks."""

    @property
    def name(self) -> str:
        """The path of the (first) file."""
        return self.files[0].name

    @property
    def n_bytes(self) -> int:
        """Of all parts."""
        return sum(file.n_bytes for file in self.files)

    @property
    def is_dynamic(self) -> bool:
        """Whether it is one of those whose names begin the quantization with UD-."""
        return "UD-" in self.name.upper()


def models_of(files: Iterable[RepoFile]) -> list[Model]:
    """Return the models among files, best quantization first."""
    groups: dict[tuple[str, int], list[RepoFile]] = {}
    for file in files:
        if is_model(file.name):
            shard = shard_of(file.name)
            groups.setdefault((shard.head, shard.count) if shard else (file.name, 1), []).append(file)
    models = [
        Model(quantization_of(group[0].name), tuple(sorted(group, key=lambda file: file.name)), count - len(group))
        for (_, count), group in groups.items()
    ]
    return sorted(models, key=lambda model: (place_of(model.quantization), model.is_dynamic, model.name))


def choose(ref: RepoRef, files: Iterable[RepoFile]) -> Model:
    """Return the model that `ref` means.

    Args:
        ref: with a file, that one and the other parts of it; with a tag, that quantization; with neither, the best.
        files: of the repository.

    Raises:
        HubNotFound: there is none such; the message says what there is.
        RequestError: several are of that quantization.
    """
    models = models_of(files)
    if not models:
        raise HubNotFound(
            f"{ref.repo} holds no GGUF model.", hint=f"Look for one with: localllm search {ref.repo.split('/')[1]}"
        )
    model = _by_file(ref, models) if ref.file else _by_tag(ref, models) if ref.tag else _best(ref, models)
    if model.n_missing:
        n_parts = len(model.files) + model.n_missing
        raise HubNotFound(
            f"{ref.repo} has {len(model.files)} of the {n_parts} parts of {printable(model.name)}.",
            hint="Choose another quantization, or try again when its owner has put up the rest.",
        )
    return model


def _best(ref: RepoRef, models: list[Model]) -> Model:
    whole = [model for model in models if not model.n_missing] or models
    first = whole[0]
    return _only(ref, [model for model in whole if model.quantization == first.quantization])


def _by_tag(ref: RepoRef, models: list[Model]) -> Model:
    tag = ref.tag or ""
    wanted = quantization_of(tag) or tag.upper()
    same = [model for model in models if model.quantization == wanted]
    if tag.upper().startswith("UD-"):
        same = [model for model in same if model.is_dynamic]
    if same:
        return _only(ref, same)
    there = list(dict.fromkeys(model.quantization for model in models if model.quantization))
    near = get_close_matches(wanted, there, n=1)
    guess = f" Did you mean {near[0]}?" if near else ""
    raise HubNotFound(f"{ref.repo} has no {printable(tag)}.{guess}", hint=f"It has {_listed(there)}.")


def _by_file(ref: RepoRef, models: list[Model]) -> Model:
    named = ref.file or ""
    for model in models:
        if any(file.name == named for file in model.files):
            return model
    names = [model.name for model in models]
    near = get_close_matches(named, names, n=1)
    guess = f" Did you mean {printable(near[0])}?" if near else ""
    raise HubNotFound(f"{ref.repo} has no model file {printable(named)}.{guess}", hint=f"It has {_listed(names)}.")


def _only(ref: RepoRef, same: list[Model]) -> Model:
    """Return the one model of a quantization: of two, the one that is not dynamic; more are the caller's choice."""
    plain = [model for model in same if not model.is_dynamic] or same
    if len(plain) == 1:
        return plain[0]
    names = [f"hf://{ref.repo}/{model.name}" for model in plain]
    raise RequestError(
        f"{ref.repo} has {len(plain)} models in {plain[0].quantization or 'no quantization that their names say'}.",
        hint=f"Name one: {_listed(names)}.",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(printable(name, 120) for name in names[:N_LISTED_MAX])
    more = len(names) - N_LISTED_MAX
    return shown + (f" and {more} more" if more > 0 else "") if names else "none that say their quantization"
