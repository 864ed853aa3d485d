"""Where on the web the file lies that a reference means."""

from __future__ import annotations

from localllm.errors import RequestError
from localllm.hub.refs import RepoRef, UrlRef
from localllm.hub.remote_header import RemoteFile


def remote_file(ref: RepoRef | UrlRef) -> RemoteFile:
    """Return a file's address, and what is sent along when it is asked for.

    Raises:
        RequestError: a whole repository is meant, not a file of it.
    """
    if isinstance(ref, UrlRef):
        return RemoteFile(ref.url, {"User-Agent": "localllm"})
    if ref.file is None:
        raise RequestError(f"{ref} has several files.", hint=f"Name one of them: hf://{ref.repo}/FILE.gguf")
    # It brings an HTTP client, which takes a fifth of a second to import.
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils._headers import build_hf_headers

    return RemoteFile(hf_hub_url(ref.repo, ref.file, revision=ref.revision), build_hf_headers())
