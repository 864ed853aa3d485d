"""A server of ours on this machine: its models are asked there, not loaded a second time.

Their names begin with an address, such as "@127.0.0.1:8080/smollm2"; no remote can be called that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.llm import LLM

SERVER_ADDRESS = "127.0.0.1:8080"
"""Where `localllm serve` listens unless it is told otherwise."""

_LOOK_S = 1.0
_REMOTE_NAME = "serve"


def is_attached(ref: str) -> bool:
    """Tell whether a name is of a model that a server on this machine has."""
    return ref.startswith("@") and ":" in ref.partition("/")[0]


def attached_models(address: str = SERVER_ADDRESS) -> list[str]:
    """Return the names of what a server at `address` has loaded; none where no server of ours answers."""
    import http.client
    import json
    import os

    from localllm.config import API_KEY_VARIABLE

    key = os.environ.get(API_KEY_VARIABLE)
    connection = http.client.HTTPConnection(address, timeout=_LOOK_S)
    try:
        connection.request("GET", "/v1/admin/status", headers={"authorization": f"Bearer {key}"} if key else {})
        models = json.loads(connection.getresponse().read())["models"]
        return [f"@{address}/{model['id']}" for model in models if model["state"] == "loaded"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return []
    finally:
        connection.close()


def open_attached(ref: str) -> LLM:
    """Return a model of a server on this machine.

    Raises:
        ModelNotFound: it does not have the model.
        ServerError: it does not answer, or refuses.
    """
    import os

    from localllm.config import API_KEY_VARIABLE
    from localllm.llm.remote import RemoteLLM
    from localllm.remotes import Remote, RemoteClient

    address, _, model = ref.removeprefix("@").partition("/")
    key = os.environ.get(API_KEY_VARIABLE)
    return RemoteLLM(RemoteClient(Remote(_REMOTE_NAME, f"http://{address}", key=key, model=model or None)))
