"""Where huggingface_hub keeps a repository's files on this disk, so that its other users find ours, and we theirs.

    models--org--name/
      blobs/<digest>                        the bytes; <digest>.incomplete while they come
      snapshots/<commit>/<file>             links to blobs; what is here is whole
      refs/<branch or tag>                  the commit that it was last seen at
    .locks/models--org--name/<digest>.lock  held while a blob is fetched

Source: huggingface_hub's guide "Understand caching", and its file_download.py.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from localllm.gguf.new_file import make_folder
from localllm.hub.client import RepoFile
from localllm.partial_files import sync_folder

DEFAULT_REVISION = "main"


class RepoCache:
    """The folder of one repository.

    Args:
        repo: "org/name".
        root: the cache; None: HF_HUB_CACHE, or below HF_HOME.
    """

    def __init__(self, repo: str, root: Path | None = None) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        self._root = root or Path(constants.HF_HUB_CACHE)
        self._uses_links = not constants.HF_HUB_DISABLE_SYMLINKS
        self._folder_name: str = repo_folder_name(repo_id=repo, repo_type="model")
        self.folder = self._root / self._folder_name

    def blob(self, file: RepoFile) -> Path:
        """Return where a file's bytes are, or will be."""
        return self.folder / "blobs" / file.digest

    def incomplete(self, file: RepoFile) -> Path:
        """Return where they are while they come. Older versions of huggingface_hub used the same name."""
        return self.folder / "blobs" / f"{file.digest}.incomplete"

    def lock(self, file: RepoFile) -> Path:
        """Return the file whose lock says that somebody fetches these bytes; huggingface_hub's own."""
        return self._root / ".locks" / self._folder_name / f"{file.digest}.lock"

    def snapshot(self, commit: str, file: RepoFile) -> Path:
        """Return the path of a file under its own name."""
        return self.folder / "snapshots" / commit / file.name

    def has(self, commit: str, file: RepoFile) -> bool:
        """Return whether a file is there, under its name and as long as it should be."""
        return _size(self.snapshot(commit, file)) == file.n_bytes

    def has_blob(self, file: RepoFile) -> bool:
        """Return whether bytes of this digest and length are there, whoever fetched them."""
        return _size(self.blob(file)) == file.n_bytes

    def make_folders(self, file: RepoFile) -> None:
        """Make the folders that fetching a file needs.

        Raises:
            RequestError: they cannot be made.
        """
        make_folder(self.blob(file).parent)
        make_folder(self.lock(file).parent)

    def publish(self, commit: str, file: RepoFile) -> Path:
        """Let a file appear under its name; its bytes must be whole, and checked. Safe beside others that do the same.

        Raises:
            OSError: the link cannot be made.
        """
        path, blob = self.snapshot(commit, file), self.blob(file)
        make_folder(path.parent)
        if not (self._uses_links and _link(blob, path)):
            os.replace(blob, path)
        sync_folder(path.parent)
        return path

    def remember(self, revision: str | None, commit: str) -> None:
        """Note that a branch or tag is at this commit, for when the hub cannot be asked.

        Raises:
            OSError: it cannot be written.
        """
        name = revision or DEFAULT_REVISION
        if name == commit:
            return
        path = self.folder / "refs" / name
        make_folder(path.parent)
        new = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        new.write_text(commit)
        os.replace(new, path)

    def commit_of(self, revision: str | None) -> str | None:
        """Return the commit that a revision was last seen at, if files of it are here."""
        name = revision or DEFAULT_REVISION
        commit = name
        with contextlib.suppress(OSError, UnicodeDecodeError):
            commit = (self.folder / "refs" / name).read_text().strip()
        return commit if (self.folder / "snapshots" / commit).is_dir() else None

    def files(self, commit: str) -> Iterator[RepoFile]:
        """Yield the GGUF files that are here of a commit."""
        root = self.folder / "snapshots" / commit
        for path in sorted(root.rglob("*")):
            n_bytes = _size(path)
            if path.suffix.lower() == ".gguf" and n_bytes is not None:
                yield RepoFile(path.relative_to(root).as_posix(), n_bytes, path.resolve().name)


def _link(blob: Path, path: Path) -> bool:
    """Make `path` a relative link to `blob`, in one step; False where the system makes none (Windows, some disks)."""
    new = path.with_name(f".{path.name}.{os.getpid()}.link")
    try:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
        new.symlink_to(os.path.relpath(blob, path.parent))
    except (OSError, NotImplementedError):
        return False
    os.replace(new, path)
    return True


def _size(path: Path) -> int | None:
    """Return how long a file is; None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None
