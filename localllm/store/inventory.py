"""All models on this disk, place by place, and what each is called.

A name is looked up in this order, and the first place that has a model of that name decides:

1. the demo model's package
2. our own folder: downloads by URL and imports, by the names of their files
3. the folders of the setting `model_dirs`, the same
4. the Hugging Face cache: org/repo, org/repo:TAG, org/repo@REVISION, hf://org/repo/FILE
5. Ollama: name:tag, and the name alone
6. LM Studio: publisher/repository, with the same forms as 4

The case of letters decides only between names that are equal else. Where a name without a quantization fits several
models of a place, `hub.preference` decides.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from localllm import paths
from localllm.hub.preference import place_of
from localllm.store.models import Place, StoredModel

Source = Callable[[], Iterable[StoredModel]]


class Shelf:
    """The models of one place, by all their names."""

    def __init__(self, models: Iterable[StoredModel]) -> None:
        self.models = tuple(models)
        self._by_name: dict[str, list[StoredModel]] = defaultdict(list)
        for model in self.models:
            for name in dict.fromkeys(name.casefold() for name in model.names):
                self._by_name[name].append(model)

    def find(self, name: str) -> list[StoredModel]:
        """Return the models that a name fits, the one that it means first; of those in its very letters, if any are."""
        found = self._by_name.get(name.casefold(), [])
        exact = [model for model in found if name in model.names]
        return sorted(exact or found, key=_rank)


class Inventory:
    """The models on this disk. A place is only looked at when it is its turn.

    Args:
        model_dirs: folders of the user's; None: those of the settings.
    """

    def __init__(self, model_dirs: Sequence[Path] | None = None) -> None:
        self._model_dirs = model_dirs
        self._shelves: dict[Place, Shelf] = {}

    @property
    def models(self) -> list[StoredModel]:
        """All models, in the order of places."""
        return [model for place in Place for model in self.shelf(place).models]

    def shelf(self, place: Place) -> Shelf:
        """Return the models of one place, which is read once."""
        if place not in self._shelves:
            self._shelves[place] = Shelf(_distinct(self._sources(place)))
        return self._shelves[place]

    def find(self, name: str, places: Iterable[Place] = Place) -> list[StoredModel]:
        """Return the models that a name fits in the first of these places that has one; what it means comes first."""
        return next((found for place in places if (found := self.shelf(place).find(name))), [])

    def at(self, path: Path) -> StoredModel | None:
        """Return the model that a path is a file of; None if it is in no place."""
        path = Path(os.path.abspath(path))
        return next((model for model in self.models if any(file.path == path for file in model.files)), None)

    def ref(self, model: StoredModel) -> str:
        """Return what finds this model again: the best of its names that means no other one, else its path."""
        return next((name for name in model.names if self.find(name)[0] == model), str(model.path))

    def names(self) -> list[str]:
        """Return all names of all models."""
        return list(dict.fromkeys(name for model in self.models for name in model.names))

    def _sources(self, place: Place) -> Iterator[Source]:
        match place:
            case Place.DEMO:
                from localllm.store.demo import demo_models

                yield demo_models
            case Place.OWN:
                from localllm.store.own_folder import own_models

                yield partial(own_models, paths.models_dir())
            case Place.FOLDER:
                from localllm.store.own_folder import folder_models

                yield from (partial(folder_models, folder) for folder in self._folders())
            case Place.HUGGING_FACE:
                from localllm.store.huggingface_cache import cache_folder, cached_models

                yield partial(cached_models, cache_folder())
            case Place.OLLAMA:
                from localllm.store.ollama import ollama_folders, ollama_models

                yield from (partial(ollama_models, folder) for folder in ollama_folders())
            case Place.LM_STUDIO:
                from localllm.store.lm_studio import lm_studio_folders, lm_studio_models

                yield from (partial(lm_studio_models, folder) for folder in lm_studio_folders())

    def _folders(self) -> Sequence[Path]:
        if self._model_dirs is None:
            from localllm.config import load_settings

            self._model_dirs = load_settings().model_dirs
        return self._model_dirs


def _distinct(sources: Iterable[Source]) -> Iterator[StoredModel]:
    """Yield the models of a place's folders, each once, although one folder may be a link to another, or in it."""
    seen = set()
    for source in sources:
        for model in source():
            key = (model.names, model.files[0].identity)
            if key not in seen:
                seen.add(key)
                yield model


def _rank(model: StoredModel) -> int:
    return place_of(model.quantization)
