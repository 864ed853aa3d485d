"""From what people call a model to its files on this disk."""

from __future__ import annotations

from localllm.errors import RequestError
from localllm.gguf.problems import printable
from localllm.hub.catalog import repo_ref
from localllm.hub.pulled import Pulled, PullOptions
from localllm.hub.refs import ModelRef, NameRef, RepoRef, UrlRef
from localllm.hub.repo_files import pull_repo
from localllm.hub.url_files import pull_url


def pull(ref: ModelRef, options: PullOptions | None = None) -> Pulled:
    """Have the model that `ref` means on this disk, and return where. What is there already is not fetched again.

    Raises:
        ModelNotFound: the catalog has no such name.
        HubError: it cannot be found, may not be had, or does not come; see the classes below it.
        NotEnoughDisk: there is no room; what came is kept, and the next pull goes on from there.
        RequestError: the ref is nothing that can be fetched, or files cannot be written.
        KeyboardInterrupt: Ctrl-C; what came is kept.
        Stopped: the options' `stop` was set; what came is kept.
    """
    options = options or PullOptions()
    match ref:
        case RepoRef():
            return pull_repo(ref, options)
        case NameRef():
            return pull_repo(repo_ref(ref), options)
        case UrlRef():
            return pull_url(ref, options)
    raise RequestError(
        f"{printable(str(ref), 200)} is not fetched: it is a file, or another engine's.",
        hint="Give a name, org/name:Q4_K_M, or a URL.",
    )
