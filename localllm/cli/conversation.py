"""The messages of one conversation, and the files it is kept in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from localllm.chat.messages import parse_messages
from localllm.errors import RequestError


class Turn(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


class Conversation:
    """A system prompt and turns. It changes by whole turns, so a failed answer leaves no trace."""

    def __init__(self, system: str | None = None) -> None:
        self.system = system
        self.turns: list[Turn] = []

    def messages(self, question: str | None = None) -> list[dict[str, str]]:
        """Return the messages so far, with `question` as the last one."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns:
            messages.append({"role": "user", "content": turn.question})
            messages.append({"role": "assistant", "content": turn.answer})
        if question is not None:
            messages.append({"role": "user", "content": question})
        return messages

    def pop(self) -> Turn | None:
        """Take back the last turn."""
        return self.turns.pop() if self.turns else None

    def clear(self) -> None:
        """Forget the turns; the system prompt stays."""
        self.turns.clear()

    def save(self, path: Path) -> None:
        """Write a new file: JSON for a name that ends in .json, else Markdown.

        Raises:
            RequestError: the file exists, or cannot be written.
        """
        text = self._as_json() if path.suffix.lower() == ".json" else self._as_markdown()
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError as error:
            raise RequestError(f"{path} exists already.", hint="Choose another name.") from error
        except OSError as error:
            raise RequestError(f"Cannot write {path}: {error.strerror}.", hint="Choose another place.") from error

    @classmethod
    def load(cls, path: Path) -> Conversation:
        """Read what `save` wrote as JSON, or any JSON list of messages.

        Raises:
            RequestError: the file cannot be read, or is not a conversation of a user and an assistant.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RequestError(f"Cannot read {path}: {error.strerror}.", hint="Check the path.") from error
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{path} is not JSON.", hint="Only conversations saved as .json can be read.") from error
        return cls._from_messages(data["messages"] if isinstance(data, dict) and "messages" in data else data)

    @classmethod
    def _from_messages(cls, data: object) -> Conversation:
        messages = parse_messages(data)  # type: ignore[arg-type]
        system = [message.text for message in messages if message.role in ("system", "developer")]
        spoken = [message for message in messages if message.role not in ("system", "developer")]
        questions, answers = spoken[::2], spoken[1::2]
        alternates = all(m.role == "user" for m in questions) and all(m.role == "assistant" for m in answers)
        if not alternates or len(questions) != len(answers):
            raise RequestError(
                "The messages do not alternate between user and assistant, ending with an answer.",
                hint="Only plain conversations can be continued here.",
            )
        conversation = cls("\n\n".join(system) or None)
        conversation.turns = [Turn(q.text, a.text) for q, a in zip(questions, answers, strict=True)]
        return conversation

    def _as_json(self) -> str:
        return json.dumps({"messages": self.messages()}, ensure_ascii=False, indent=2) + "\n"

    def _as_markdown(self) -> str:
        return "\n".join(f"## {message['role'].capitalize()}\n\n{message['content']}\n" for message in self.messages())
