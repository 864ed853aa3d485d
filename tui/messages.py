"""What screens tell the app, and the app tells screens: each is about the whole app, not about one widget."""

from __future__ import annotations

from textual.message import Message


class ChatWith(Message):
    """Begin a conversation with a model."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        self.ref = ref
        """A name that the store knows, a path, or "@remote"."""


class QuantizeModel(Message):
    """Show the workshop with this model chosen."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        self.ref = ref


class ServeModel(Message):
    """Show the server's screen with this model chosen."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        self.ref = ref


class CompareModels(Message):
    """Ask two models the same."""

    def __init__(self, ref_a: str, ref_b: str) -> None:
        super().__init__()
        self.ref_a = ref_a
        self.ref_b = ref_b


class FetchModel(Message):
    """Begin to fetch a model, and show how far it is."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        self.ref = ref


class ModelsChanged(Message):
    """A model came or went: whoever shows models looks again."""


class SettingsChanged(Message):
    """Settings have other values: `services.settings` has them."""

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self.names = names


class EngineChanged(Message):
    """An engine is loading, ready, gone or crashed."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        self.ref = ref


class ServerChanged(Message):
    """The server started, went on or ended."""


class DownloadChanged(Message):
    """A download began, went on, paused, ended or was taken off the list."""

    def __init__(self, download_id: int) -> None:
        super().__init__()
        self.download_id = download_id


class JobChanged(Message):
    """A background job began, went on or ended."""

    def __init__(self, job_id: int) -> None:
        super().__init__()
        self.job_id = job_id


class ToolsChanged(Message):
    """A tool server started, ended, failed or has other tools."""
