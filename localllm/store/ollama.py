"""Ollama's models: a manifest for each name, which lists blobs by their SHA-256; the GGUF file is one of them.

    manifests/HOST/NAMESPACE/MODEL/TAG      {"config": {"digest": …}, "layers": [{"mediaType": …, "digest": …}, …]}
    blobs/sha256-…

Source: manifest/manifest.go, manifest/paths.go, types/model/name.go and envconfig/config.go of ollama/ollama.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localllm.hub.file_names import quantization_of
from localllm.hub.refs import RepoRef
from localllm.store.models import Place, StoredModel
from localllm.store.names import distinct
from localllm.store.scan import entries, stored_file

MODELS_VARIABLE = "OLLAMA_MODELS"
DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG = "registry.ollama.ai", "library", "latest"
_SERVICE_FOLDER = Path("/usr/share/ollama/.ollama/models")
"""Of the Linux service, which runs as a user of its own."""
_HUB_HOSTS = ("hf.co", "huggingface.co")
_MODEL_LAYER = "application/vnd.ollama.image.model"
_MAX_MANIFEST_BYTES = 4 << 20
_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Layer:
    """A blob that a manifest names."""

    media_type: str
    """Such as "application/vnd.ollama.image.model"; others end in template, params, license, system, projector."""
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is behind one of Ollama's names."""

    path: Path
    host: str
    namespace: str
    model: str
    tag: str
    layers: tuple[Layer, ...]
    """The configuration among them."""

    @property
    def weights(self) -> Layer | None:
        """The GGUF file; None where the model is in another format."""
        return next((layer for layer in self.layers if layer.media_type == _MODEL_LAYER), None)

    @property
    def names(self) -> tuple[str, ...]:
        """What Ollama shows, then what else finds it; a repository of the hub keeps its name."""
        if self.host.lower() in _HUB_HOSTS:
            repo = f"{self.namespace}/{self.model}"
            tag = None if self.tag == DEFAULT_TAG else self.tag
            return distinct([str(RepoRef(repo, tag)), f"{self.host}/{repo}:{self.tag}", repo])
        parts = [self.model]
        if self.host.lower() != DEFAULT_HOST or self.namespace.lower() != DEFAULT_NAMESPACE:
            parts.insert(0, self.namespace)
        if self.host.lower() != DEFAULT_HOST:
            parts.insert(0, self.host)
        name = "/".join(parts)
        return (f"{name}:{self.tag}", name)


def ollama_folders() -> list[Path]:
    """Return where Ollama's models may lie on this computer; the folders need not exist."""
    chosen = os.environ.get(MODELS_VARIABLE, "").strip().strip("\"'")
    if chosen:
        return [Path(chosen)]
    service = [_SERVICE_FOLDER] if sys.platform == "linux" else []
    return [Path(os.path.expanduser("~")) / ".ollama" / "models", *service]


def ollama_models(root: Path) -> Iterator[StoredModel]:
    """Yield Ollama's models whose weights are a GGUF file that is there, the tag "latest" of each name first."""
    for manifest in sorted(manifests(root), key=lambda one: (one.path.parent, one.tag != DEFAULT_TAG, one.tag)):
        weights = manifest.weights
        file = stored_file(blob_path(root, weights), weights.sha256) if weights else None
        if file is not None:
            yield StoredModel(Place.OLLAMA, root, (file,), manifest.names, quantization_of(manifest.tag))


def manifests(root: Path) -> Iterator[Manifest]:
    """Yield the manifests that can be read."""
    for path in manifest_paths(root):
        manifest = read_manifest(root, path)
        if manifest is not None:
            yield manifest


def manifest_paths(root: Path) -> list[Path]:
    """Return the manifests' files, sound or not."""
    folders = [root / "manifests"]
    for _ in range(3):
        folders = [folder / entry.name for folder in folders for entry in entries(folder)]
    return [folder / entry.name for folder in folders for entry in entries(folder)]


def read_manifest(root: Path, path: Path) -> Manifest | None:
    """Return a manifest; None if it cannot be read, or is none."""
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            return None
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    layers = _layers(found)
    host, namespace, model, tag = path.relative_to(root / "manifests").parts
    return None if layers is None else Manifest(path, host, namespace, model, tag, layers)


def blob_path(root: Path, layer: Layer) -> Path:
    """Return where a blob lies."""
    return root / "blobs" / f"sha256-{layer.sha256}"


def _layers(found: Any) -> tuple[Layer, ...] | None:
    """Return what a manifest lists; None if it is none, which removal must not take for one that lists nothing."""
    if not isinstance(found, dict) or not isinstance(found.get("layers"), list):
        return None
    config = found.get("config")
    listed = [*found["layers"], *([config] if isinstance(config, dict) else [])]
    layers = []
    for item in listed:
        digest = item.get("digest") if isinstance(item, dict) else None
        parsed = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
        if parsed:
            layers.append(Layer(str(item.get("mediaType", "")), parsed[1].lower()))
        elif digest != "":
            return None
    return tuple(layers)
