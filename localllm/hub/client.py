"""The hub's API, through huggingface_hub: searching it, and what a repository holds.

What the hub says is not trusted: file names become paths here, and digests names of files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

from localllm._version import __version__
from localllm.errors import HubError
from localllm.gguf.problems import printable
from localllm.hub.failures import hub_errors
from localllm.hub.file_names import is_model, quantization_of

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

SearchOrder = Literal["downloads", "likes", "updated", "created", "trending"]
SEARCH_ORDERS: tuple[SearchOrder, ...] = get_args(SearchOrder)
MAX_FOUND = 100
"""Repositories in one page of the hub's answers."""

_ORDERS = {"updated": "lastModified", "created": "createdAt", "trending": "trendingScore"}
_EXPANDED = ["downloads", "likes", "lastModified", "gated", "gguf", "siblings"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class RepoFile:
    """A file of a repository."""

    name: str
    """Its path in the repository, with "/"."""
    n_bytes: int
    digest: str
    """The SHA-256 of its bytes, or, if git holds it and not LFS, git's own SHA-1; it names the file in the cache."""


@dataclass(frozen=True)
class Repo:
    """A repository at one commit."""

    name: str
    commit: str
    files: tuple[RepoFile, ...]


@dataclass(frozen=True)
class FoundRepo:
    """A repository that a search found."""

    repo: str
    n_downloads: int
    """In the last 30 days."""
    n_likes: int
    updated: datetime | None
    n_params: int | None
    is_gated: bool
    quantizations: tuple[str, ...]
    """Of its GGUF files, by their names, in their order."""


class HubClient:
    """Asks one hub.

    Args:
        endpoint: its address; None: HF_ENDPOINT, or Hugging Face's own.
        token: None: the one of `hf auth login` or HF_TOKEN, if any.
    """

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        from huggingface_hub import constants

        self.endpoint = (endpoint or constants.ENDPOINT).rstrip("/")
        self._token = token

    @property
    def headers(self) -> dict[str, str]:
        """What every request to this hub says: who asks, and the token."""
        from huggingface_hub.utils import build_hf_headers

        headers: dict[str, str] = build_hf_headers(
            token=self._token, library_name="localllm", library_version=__version__
        )
        return headers

    def search(self, query: str, *, limit: int = 20, order: SearchOrder = "downloads") -> list[FoundRepo]:
        """Return the repositories with GGUF files whose names match `query`, best first.

        Raises:
            HubError: the hub cannot be asked, or its answer makes no sense.
        """
        from huggingface_hub.hf_api import ModelInfo

        params = {
            "search": query,
            "filter": "gguf",
            "sort": _ORDERS.get(order, order),
            "limit": min(limit, MAX_FOUND),
            "expand": _EXPANDED,
        }
        with hub_errors(f"the search for {query}"), _sensible_answer():
            answer = self._get("/api/models", params)
            untyped: Any = ModelInfo
            return [_found(untyped(**item)) for item in answer[:limit]]

    def repo(self, name: str, revision: str | None = None) -> Repo:
        """Return what a repository holds at a revision (None: its default branch), with sizes and digests.

        Raises:
            HubError: there is none, it may not be seen, or the hub cannot be asked.
            RequestError: `name` is none that a repository can have.
        """
        from huggingface_hub import HfApi, constants

        api = HfApi(endpoint=self.endpoint, token=self._token, library_name="localllm", library_version=__version__)
        asked = f"{name}@{revision}" if revision else name
        with hub_errors(asked), _sensible_answer():
            timeout_s = constants.HF_HUB_ETAG_TIMEOUT
            info = api.model_info(name, revision=revision, files_metadata=True, timeout=timeout_s)
            commit = info.sha or ""
            if not _COMMIT.fullmatch(commit):
                raise ValueError("no commit")
            return Repo(name, commit, tuple(_files(info)))

    def url(self, repo: Repo, file: RepoFile) -> str:
        """Return where a file's bytes are, at the commit that `repo` is."""
        from huggingface_hub import hf_hub_url

        url: str = hf_hub_url(repo.name, file.name, revision=repo.commit, endpoint=self.endpoint)
        return url

    def _get(self, path: str, params: dict[str, Any]) -> Any:
        """Return the JSON of one page; HfApi.list_models would wait for a silent server for ever."""
        from huggingface_hub import constants
        from huggingface_hub.utils import get_session, hf_raise_for_status

        timeout_s = constants.HF_HUB_ETAG_TIMEOUT
        response = get_session().get(self.endpoint + path, params=params, headers=self.headers, timeout=timeout_s)
        hf_raise_for_status(response)
        return response.json()


@contextmanager
def _sensible_answer() -> Iterator[None]:
    """Say of an answer that is not understood that it is not the hub's."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        if isinstance(error, HfHubHTTPError | HFValidationError):
            raise
        raise HubError(
            "The answer is not one of the hub's API.", hint="Check HF_ENDPOINT, and that no login page is in between."
        ) from error


def _found(info: ModelInfo) -> FoundRepo:
    names = [sibling.rfilename for sibling in info.siblings or [] if is_model(sibling.rfilename)]
    quantizations = dict.fromkeys(filter(None, map(quantization_of, names)))
    total = (info.gguf or {}).get("total")
    return FoundRepo(
        repo=str(info.id),
        n_downloads=int(info.downloads or 0),
        n_likes=int(info.likes or 0),
        updated=info.last_modified,
        n_params=int(total) if total else None,
        is_gated=bool(info.gated),
        quantizations=tuple(quantizations),
    )


def _files(info: ModelInfo) -> Iterator[RepoFile]:
    """Yield the GGUF files; one without a size or digest could not be checked, so it is an error."""
    for sibling in info.siblings or []:
        if sibling.rfilename.lower().endswith(".gguf"):
            yield _file(sibling)


def _file(sibling: RepoSibling) -> RepoFile:
    name = sibling.rfilename
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or {"..", "."} & set(name.split("/"))
        or re.search(r'[\x00-\x1f\\:*?"<>|]', name)
    ):
        raise HubError(f"A file in the repository is called {printable(name)}, which is not safe.", hint="Report it.")
    digest, size = (sibling.lfs.sha256, sibling.lfs.size) if sibling.lfs else (sibling.blob_id, sibling.size)
    if not isinstance(size, int) or size < 0 or not _DIGEST.fullmatch(digest or ""):
        raise HubError(
            f"The hub says no size or digest of {printable(name)}, so it could not be checked.",
            hint="If HF_ENDPOINT is a mirror, try another, or none.",
        )
    return RepoFile(name, size, str(digest))
