"""A hub on loopback that the app asks, and models for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localllm.hub.pulled import PullOptions
from tests.hub.conftest import QUICK
from tests.hub.local_hub import LocalHub
from tui.app import LocalLLM
from tui.screens.models import ModelsScreen
from tui.widgets.model_table import ModelTable

REPO = "org/tiny-GGUF"
OPTIONS = PullOptions(patience=QUICK)


@dataclass
class HubPlace:
    """A hub, and the cache that is pulled into."""

    hub: LocalHub
    cache: Path

    @property
    def snapshots(self) -> list[Path]:
        """Everything that programs would take for a model."""
        return sorted(path for path in self.cache.glob("*/snapshots/*/**/*") if not path.is_dir())

    @property
    def incomplete(self) -> list[Path]:
        return sorted(self.cache.glob("*/blobs/*.incomplete"))


@pytest.fixture
def hub_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubPlace]:
    """The hub that everything in this process asks, without the network."""
    from huggingface_hub import constants

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    cache = home / "huggingface" / "hub"
    with LocalHub() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        yield HubPlace(hub, cache)


def models_screen(app: LocalLLM) -> ModelsScreen:
    """Return the screen of models, wherever the app is now."""
    return next(screen for stack in app._screen_stacks.values() for screen in stack if isinstance(screen, ModelsScreen))


def listed(app: LocalLLM) -> list[str]:
    """Return the names of the models that are listed."""
    table = models_screen(app).query_one(ModelTable)
    return [str(table.get_row_at(index)[0]) for index in range(table.row_count)]


def cell(app: LocalLLM, name: str, column: str) -> str:
    """Return what the list says of a model."""
    table = models_screen(app).query_one(ModelTable)
    index = listed(app).index(name)
    key = table.ordered_rows[index].key
    return str(table.get_cell(key, column))
