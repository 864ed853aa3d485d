"""Where on the web the file lies that a reference means."""

from __future__ import annotations

from localllm.hub.refs import RepoRef, UrlRef
from localllm.hub.remote_header import RemoteFile


def remote_file(ref: RepoRef | UrlRef) -> RemoteFile:
    """Return a file's address, and what is sent along when it is asked for; of a split model that of its first part.

    Raises:
        HubError: the repository cannot be asked which of its files is meant.
        RequestError: several are.
    """
    if isinstance(ref, UrlRef):
        return RemoteFile(ref.url, {"User-Agent": "localllm"})
    # They bring an HTTP client, which takes a fifth of a second to import.
    from huggingface_hub import hf_hub_url

    from localllm.hub.choice import choose
    from localllm.hub.client import HubClient

    client = HubClient()
    if ref.file is not None:
        return RemoteFile(hf_hub_url(ref.repo, ref.file, revision=ref.revision), client.headers)
    repo = client.repo(ref.repo, ref.revision)
    return RemoteFile(client.url(repo, choose(ref, repo.files).files[0]), client.headers)
