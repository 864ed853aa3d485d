"""Deleting Ollama's models as Ollama does: the manifest, then the blobs that no other manifest names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from localllm.store.models import StoredModel
from localllm.store.ollama import Manifest, blob_path, manifest_paths, manifests, read_manifest


def files_of(models: Sequence[StoredModel]) -> tuple[list[Path], list[str]]:
    """Return what to delete, and what is to be said of it."""
    files: list[Path] = []
    remarks: list[str] = []
    for root in dict.fromkeys(model.root for model in models):
        names = {model.names for model in models if model.root == root}
        going = [manifest for manifest in manifests(root) if manifest.names in names]
        blobs, remark = _blobs(root, going)
        files += [manifest.path for manifest in going] + blobs
        remarks += remark
    return files, remarks


def _blobs(root: Path, going: Sequence[Manifest]) -> tuple[list[Path], list[str]]:
    """Return the blobs that nobody needs when these manifests are gone: none if a manifest cannot be read."""
    staying = [path for path in manifest_paths(root) if path not in {manifest.path for manifest in going}]
    read = [read_manifest(root, path) for path in staying]
    if None in read:
        return [], ["The blobs stay: Ollama has a manifest that cannot be read, and may need them."]
    needed = {layer.sha256 for manifest in read if manifest for layer in manifest.layers}
    free = {layer.sha256: layer for manifest in going for layer in manifest.layers if layer.sha256 not in needed}
    return [path for layer in free.values() if (path := blob_path(root, layer)).is_file()], []
