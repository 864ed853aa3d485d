"""A conversation with a model, as the person in front of it steers it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from localllm.cli.conversation import Conversation, Turn
from localllm.cli.screen import AnswerWriter, error_notice, notice
from localllm.cli.status import StatusLine, chat_summary
from localllm.errors import ContextLengthExceeded, LocalLLMError, ServerError
from localllm.llm import LLM, Done, GenerateOptions, Progress, TextDelta, Waiting


class Dialogue:
    """Asks, shows the answers, and keeps both.

    Args:
        llm: the model.
        conversation: what was said so far.
        options: of every answer; may be changed between answers.
        new_writer: makes what shows one answer.
    """

    def __init__(
        self,
        llm: LLM,
        conversation: Conversation,
        options: GenerateOptions,
        new_writer: Callable[[], AnswerWriter],
    ) -> None:
        self.llm = llm
        self.conversation = conversation
        self.options = options
        self._new_writer = new_writer

    def ask(self, question: str) -> None:
        """Answer `question`. A failed answer leaves no trace; one that is interrupted, or that a remote breaks off, is
        kept as far as it came."""
        answer = self._answer(question)
        if answer is not None:
            self.conversation.turns.append(Turn(question, answer))

    def regenerate(self) -> None:
        """Answer the last question again; the old answer goes only when there is a new one."""
        old = self.conversation.pop()
        if old is None:
            notice("There is no answer yet.")
            return
        answer = self._answer(old.question)
        self.conversation.turns.append(old if answer is None else Turn(old.question, answer))

    def _answer(self, question: str) -> str | None:
        """Show an answer and return it; None where there is none to keep."""
        said: list[str] = []
        done: Done | None = None
        try:
            done = self._stream(question, said)
        except KeyboardInterrupt:
            notice("(stopped)")
        except ContextLengthExceeded as error:
            error_notice(error)
            notice("Nothing is lost. Shorten it with /undo or /clear, or start with a larger --n-ctx.")
            return None
        except ServerError as error:
            # What has crossed the network is worth keeping: another try may cost as much and give less.
            error_notice(error)
        except LocalLLMError as error:
            error_notice(error)
            return None
        if done is not None:
            notice(chat_summary(done, self.llm.info.n_ctx))
            return done.text
        return "".join(said) or None

    def _stream(self, question: str, said: list[str]) -> Done | None:
        writer, status = self._new_writer(), StatusLine()
        done: Done | None = None
        try:
            with closing(self.llm.chat(self.conversation.messages(question), **self.options)) as stream:
                for event in stream:
                    match event:
                        case Progress():
                            status.reading(event)
                        case Waiting():
                            status.waiting(event)
                        case TextDelta():
                            status.clear()
                            said.append(event.text)
                            writer.write(event.text)
                        case Done():
                            done = event
        finally:
            status.clear()
            if said:
                writer.end()
        return done
