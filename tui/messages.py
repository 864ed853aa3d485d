"""What screens tell the app, and the app tells screens: each is about the whole app, not about one widget."""

from __future__ import annotations

from typing import Self

from textual.message import Message


class AboutModel(Message):
    """Asks another screen to do something with a model. The app shows that screen, and hands it the message."""

    def __init__(self, ref: str) -> None:
        super().__init__()
        self.ref = ref
        """A name that the store knows, a path, or "@remote"."""
        self.is_delivered = False
        """Whether it comes from the app, and so is not to be handed on."""

    def delivered(self) -> Self:
        """Return the message that the screen gets."""
        copy = type(self)(self.ref)
        copy.is_delivered = True
        return copy


class ChatWith(AboutModel):
    """Begin a conversation with a model."""


class QuantizeModel(AboutModel):
    """Show the workshop with this model chosen."""


class ServeModel(AboutModel):
    """Show the server's screen with this model chosen."""


class FetchModel(AboutModel):
    """Begin to fetch a model, and show how far it is."""


class OpenConversation(Message):
    """Show a conversation."""

    def __init__(self, conversation_id: int, *, is_delivered: bool = False) -> None:
        super().__init__()
        self.conversation_id = conversation_id
        self.is_delivered = is_delivered


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


class JobChanged(Message):
    """A background job began, went on or ended."""

    def __init__(self, job_id: int) -> None:
        super().__init__()
        self.job_id = job_id
