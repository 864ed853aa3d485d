"""Folders as other programs leave them, with tiny but real GGUF files in them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gguf.raw import ARCH, TEXT, U32, gguf_bytes, pair, tensor

MODEL_LAYER = "application/vnd.ollama.image.model"
COMMIT_A, COMMIT_B = "a" * 40, "b" * 40


def tiny_gguf(seed: int = 0, *, label: str | None = "7B", pairs: tuple[bytes, ...] = ()) -> bytes:
    """Return a sound file that a reader takes for a model; another seed gives other weights, of the same size."""
    size_label = [] if label is None else [pair("general.size_label", TEXT, label)]
    shape = {
        "block_count": 1,
        "context_length": 4096,
        "embedding_length": 32,
        "feed_forward_length": 32,
        "attention.head_count": 1,
    }
    numbers = [pair(f"llama.{key}", U32, value) for key, value in shape.items()]
    file_type = pair("general.file_type", U32, 15)
    named = pair("general.name", TEXT, f"model {seed:06d}")
    return gguf_bytes([ARCH, named, *size_label, *numbers, file_type, *pairs], [tensor("token_embd.weight", (32, 2))])


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_file(path: Path, data: bytes | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiny_gguf() if data is None else data)
    return path


@dataclass
class HubCache:
    """The cache of the Hugging Face Hub's client."""

    root: Path

    def repo(self, name: str) -> Path:
        return self.root / f"models--{name.replace('/', '--')}"

    def add(self, name: str, file: str, data: bytes, commit: str = COMMIT_A, ref: str | None = "main") -> Path:
        """Add a file to a commit, as the client does; return the link to it."""
        repo = self.repo(name)
        blob = write_file(repo / "blobs" / sha256(data), data)
        link = repo / "snapshots" / commit / file
        link.parent.mkdir(parents=True, exist_ok=True)
        depth = "../" * (2 + file.count("/"))
        link.symlink_to(f"{depth}blobs/{blob.name}")
        if ref:
            self.set_ref(name, ref, commit)
        return link

    def set_ref(self, name: str, ref: str, commit: str) -> None:
        write_file(self.repo(name) / "refs" / ref, commit.encode())


@dataclass
class Ollama:
    """Ollama's folder."""

    root: Path
    layers: dict[str, bytes] = field(default_factory=dict)

    def blob(self, data: bytes) -> Path:
        return self.root / "blobs" / f"sha256-{sha256(data)}"

    def manifest(self, name: str, tag: str, namespace: str = "library", host: str = "registry.ollama.ai") -> Path:
        return self.root / "manifests" / host / namespace / name / tag

    def add(self, name: str, tag: str, data: bytes, *, more: Mapping[str, bytes] | None = None, **place: str) -> Path:
        """Add a model with its layers, `more` by the end of their media type; return the manifest."""
        config = json.dumps({"model_format": "gguf", "tag": tag}).encode()
        layers = {MODEL_LAYER: data, **{f"application/vnd.ollama.image.{k}": v for k, v in (more or {}).items()}}
        for content in (config, *layers.values()):
            write_file(self.blob(content), content)
        said: dict[str, Any] = {
            "schemaVersion": 2,
            "config": _layer("application/vnd.docker.container.image.v1+json", config),
            "layers": [_layer(kind, content) for kind, content in layers.items()],
        }
        return write_file(self.manifest(name, tag, **place), json.dumps(said).encode())


def _layer(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{sha256(data)}", "size": len(data)}
