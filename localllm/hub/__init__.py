"""Models elsewhere: what they are called, the catalog, and fetching them."""

from localllm.hub.refs import FileRef, ModelRef, NameRef, RemoteRef, RepoRef, UrlRef, parse_ref

__all__ = ["FileRef", "ModelRef", "NameRef", "RemoteRef", "RepoRef", "UrlRef", "parse_ref"]
