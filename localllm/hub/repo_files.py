"""A model of a repository, into huggingface_hub's cache: fetched, checked, and only then under its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Event

from localllm.errors import DamagedDownload, HubUnavailable, LocalLLMError
from localllm.gguf.new_file import cannot_write, check_room
from localllm.gguf.problems import printable
from localllm.hub.cache import RepoCache
from localllm.hub.choice import choose
from localllm.hub.client import HubClient, Repo, RepoFile
from localllm.hub.locks import held
from localllm.hub.meter import Meter
from localllm.hub.parallel import run_all
from localllm.hub.partial import Partial, file_sum, sum_like
from localllm.hub.pulled import N_AT_ONCE, Pulled, PullOptions
from localllm.hub.refs import RepoRef
from localllm.hub.transfer import Transfer
from localllm.partial_files import sync_folder, unlink


def pull_repo(ref: RepoRef, options: PullOptions) -> Pulled:
    """Have a model of a repository in the cache.

    Raises:
        LocalLLMError: as `pull`.
    """
    cache = RepoCache(ref.repo, options.cache)
    client = HubClient(options.endpoint)
    try:
        repo = client.repo(ref.repo, ref.revision)
    except HubUnavailable as error:
        return _from_cache(ref, cache, options, error)
    files = choose(ref, repo.files).files
    missing = [file for file in files if not cache.has(repo.commit, file)]
    meter = Meter(sum(file.n_bytes for file in files), options.on_progress)
    meter.found(sum(file.n_bytes for file in files if file not in missing))
    if missing:
        _check_room(cache, missing)
        stop = options.stop or Event()
        fetches = [_Fetch(client, repo, cache, file, meter, stop, options).run for file in missing]
        run_all(fetches, N_AT_ONCE, stop)
    paths = _publish(cache, repo, ref, files)
    return Pulled(paths[0], paths, sum(file.n_bytes for file in files), meter.n_fetched_bytes, repo.commit)


def _from_cache(ref: RepoRef, cache: RepoCache, options: PullOptions, error: HubUnavailable) -> Pulled:
    """Return what is on this disk, since the hub cannot be asked; raise `error` if there is nothing that fits."""
    commit = cache.commit_of(ref.revision)
    try:
        files = choose(ref, cache.files(commit) if commit else ()).files
    except LocalLLMError:
        raise error from error.__cause__
    assert commit is not None
    options.on_note(f"{error.message} The copy on this disk is used.")
    paths = tuple(cache.snapshot(commit, file) for file in files)
    return Pulled(paths[0], paths, sum(file.n_bytes for file in files), 0, commit)


def _check_room(cache: RepoCache, files: list[RepoFile]) -> None:
    needed = 0
    for file in files:
        cache.make_folders(file)
        if not cache.has_blob(file):
            partial = cache.incomplete(file)
            needed += file.n_bytes - min(file.n_bytes, partial.stat().st_size if partial.exists() else 0)
    if needed:
        check_room(cache.blob(files[0]).with_name(Path(files[0].name).name), needed)


def _publish(cache: RepoCache, repo: Repo, ref: RepoRef, files: tuple[RepoFile, ...]) -> tuple[Path, ...]:
    """Let all parts appear, the first one last, so that nobody sees a split model before it is whole."""
    try:
        for file in reversed(files):
            if not cache.has(repo.commit, file):
                cache.publish(repo.commit, file)
        cache.remember(ref.revision, repo.commit)
    except OSError as error:
        raise cannot_write(cache.folder, error) from error
    return tuple(cache.snapshot(repo.commit, file) for file in files)


@dataclass
class _Fetch:
    """One file's way into the blobs of the cache."""

    client: HubClient
    repo: Repo
    cache: RepoCache
    file: RepoFile
    meter: Meter
    stop: Event
    options: PullOptions

    def run(self) -> None:
        with held(self.cache.lock(self.file), self._say_waiting, self.stop):
            if self.cache.has(self.repo.commit, self.file) or self._has_sound_blob():
                self.meter.found(self.file.n_bytes)
                return
            # What is damaged may be what an earlier run left, so that is given one more try, from the beginning.
            if not (self._fetch() or self._fetch()):
                raise DamagedDownload(
                    f"{printable(self.file.name, 200)} came twice with other contents than the hub announces"
                    f" ({self.file.digest[:12]}…).",
                    hint="It was deleted. Try again later, or another HF_ENDPOINT.",
                )

    def _say_waiting(self) -> None:
        self.options.on_note(f"Another process fetches {printable(self.file.name, 200)}; waiting for it.")

    def _has_sound_blob(self) -> bool:
        """Return whether the bytes are there, under no name yet: of a run that was stopped, or of another program."""
        if not self.cache.has_blob(self.file):
            return False
        blob = self.cache.blob(self.file)
        new_sum = sum_like(self.file.digest, self.file.n_bytes)
        return file_sum(blob, new_sum, self.stop.is_set) == self.file.digest

    def _fetch(self) -> bool:
        """Fetch what is missing; False if it is not what was announced, and deleted."""
        path = self.cache.incomplete(self.file)
        self.options.on_partial(path)
        with Partial(path, sum_like(self.file.digest, self.file.n_bytes)) as partial:
            if partial.n_bytes > self.file.n_bytes:
                partial.restart()
            self.meter.found(partial.n_bytes)
            Transfer(
                url=self.client.url(self.repo, self.file),
                asked=f"hf://{self.repo.name}/{self.file.name}",
                headers=self.client.headers,
                partial=partial,
                n_bytes=self.file.n_bytes,
                on_bytes=self.meter.add,
                stop=self.stop,
                patience=self.options.patience,
                on_note=self.options.on_note,
            ).run()
            is_sound = partial.finish() == self.file.digest
        if is_sound:
            self._keep(path)
        else:
            self.meter.found(-self.file.n_bytes)
            unlink(path)
        return is_sound

    def _keep(self, path: Path) -> None:
        blob = self.cache.blob(self.file)
        try:
            path.replace(blob)
        except OSError as error:
            raise cannot_write(blob, error) from error
        sync_folder(blob.parent)
