"""Every error this project raises on purpose.

    LocalLLMError
    ├── ModelError                 a model file, and what is wrong with it
    │   ├── ModelNotFound          no such name or path
    │   │   └── ModelNotHere       a name of a model that is elsewhere, and may be fetched
    │   ├── InvalidModelFile       not a GGUF file, or a damaged one
    │   ├── InvalidCheckpoint      not a Hugging Face checkpoint, or a damaged one
    │   ├── UnsupportedModel       a sound model that the installed llama.cpp cannot run
    │   └── ModelLoadFailed        llama.cpp refused it, with llama.cpp's own reason
    │       └── AllocationFailed   it did not get the memory, whatever was planned
    ├── NotEnoughMemory            nothing that was asked for fits this machine
    ├── NotEnoughDisk              a file that is to be written does not fit on its disk
    ├── RequestError               the caller asked for something that cannot be done
    │   ├── ContextLengthExceeded  the prompt is longer than the context
    │   ├── InvalidGrammar         a grammar or JSON schema that cannot be honoured
    │   └── TemplateError          the chat template failed, or tried something it may not
    ├── ServerError                a server that was asked over HTTP: not there, not ours, or it refused
    │   ├── ServerUnreachable      nothing answers at its address
    │   ├── ServerBusy             it has no room now
    │   ├── ServerSilent           it stopped answering, and its connection is still open
    │   └── AnswerBroken           it ended in the middle of an answer
    ├── ToolServerError            a server of tools (MCP): it cannot be started, it ended, or it does not answer
    ├── HubError                   the hub, or another place that models are fetched from
    │   ├── HubNotFound            it has no such repository, revision or file
    │   ├── HubAccessDenied        it wants a token, or one with more rights
    │   ├── HubRateLimited         it has had enough requests for now
    │   ├── HubUnavailable         it failed, is not reached, or is not to be asked
    │   └── DamagedDownload        what came is not what was announced
    └── EngineError                the engine itself
        ├── EngineClosed           it was shut down
        ├── DecodeFailed           llama.cpp failed to evaluate a batch
        └── WorkerCrashed          the worker process ended

A message says what, measured against allowed; the hint says what to do next. Exit codes, HTTP statuses and notices
are each derived from these classes in one table at the edge that needs them.
"""

from __future__ import annotations


class LocalLLMError(Exception):
    """The root of the tree.

    Args:
        message: one line: what happened, measured against what is allowed.
        hint: one line: what to do next.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class ModelError(LocalLLMError):
    """Something about a model file."""


class ModelNotFound(ModelError):
    """No model has this name, and no file this path."""


class ModelNotHere(ModelNotFound):
    """The model is not on this disk, and may be on the hub."""


class InvalidModelFile(ModelError):
    """The file is not a GGUF file, or is damaged."""


class InvalidCheckpoint(ModelError):
    """The folder is no Hugging Face checkpoint, or a damaged or incomplete one."""


class UnsupportedModel(ModelError):
    """The model is sound, but the installed llama.cpp cannot run it."""


class ModelLoadFailed(ModelError):
    """llama.cpp refused to load the file."""


class AllocationFailed(ModelLoadFailed):
    """llama.cpp did not get the memory that a plan found free."""


class NotEnoughMemory(LocalLLMError):
    """Nothing that was asked for fits in this machine's memory."""


class NotEnoughDisk(LocalLLMError):
    """A file that is to be written does not fit on its disk."""


class RequestError(LocalLLMError):
    """The caller asked for something that cannot be done."""


class ContextLengthExceeded(RequestError):
    """The prompt is longer than the context."""


class InvalidGrammar(RequestError):
    """A grammar or JSON schema that cannot be parsed or honoured."""


class TemplateError(RequestError):
    """The chat template failed, ran too long, or tried something the sandbox forbids."""


class ServerError(LocalLLMError):
    """A server that was asked over HTTP is not there, is not ours, or refused."""


class ServerUnreachable(ServerError):
    """Nothing answers at the server's address."""


class ServerBusy(ServerError):
    """The server has no room for this request now."""


class ServerSilent(ServerError):
    """The server stopped answering, though its connection is still open."""


class AnswerBroken(ServerError):
    """The server ended in the middle of an answer, whose beginning was handed on."""


class ToolServerError(LocalLLMError):
    """A server of tools cannot be started, ended, or does not answer."""


class HubError(LocalLLMError):
    """The hub, or another place that models are fetched from, did not give what it was asked for."""


class HubNotFound(HubError):
    """There is no such repository, revision or file, or none that may be seen without a token."""


class HubAccessDenied(HubError):
    """The repository is gated or private, and the token is missing or not enough."""


class HubRateLimited(HubError):
    """Too many requests.

    Args:
        message: what was asked for.
        retry_after_s: when it is worth trying again, if the hub said so.
    """

    def __init__(self, message: str, *, retry_after_s: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class HubUnavailable(HubError):
    """The hub failed, cannot be reached, or is not to be asked (offline mode)."""


class DamagedDownload(HubError):
    """What came is not what was announced, twice; it was deleted."""


class EngineError(LocalLLMError):
    """The engine failed."""


class EngineClosed(EngineError):
    """The engine was shut down."""


class DecodeFailed(EngineError):
    """llama.cpp failed to evaluate a batch."""


class WorkerCrashed(EngineError):
    """The worker process ended while it was needed."""
