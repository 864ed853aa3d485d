"""From a message of a conversation to the token view, and from what was chosen there to another branch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from localllm.errors import ModelNotFound
from tui.chat.options import answer_options
from tui.chat.session import ChatSession
from tui.services import Services

if TYPE_CHECKING:
    from localllm.conversations import Node
    from tui.tokens.answer import AnswerToView, Resample

_OF_PROMPTS = ("thinking", "template_kwargs")
"""Options that a prompt depends on."""


async def answer_to_view(services: Services, session: ChatSession, node: Node) -> AnswerToView:
    """Return an answer with what was said before it, its model loaded.

    Raises:
        LocalLLMError: the model cannot be loaded.
    """
    from tui.tokens.answer import AnswerToView

    assert services.conversations is not None
    if session.ref is None:
        raise ModelNotFound("No model is chosen.", hint="Ctrl+O chooses one.")
    llm = await services.engines.open(session.ref)
    messages = await asyncio.to_thread(services.conversations.messages, session.conversation.id)
    place = next((index for index, one in enumerate(session.nodes) if one.id == node.id), len(session.nodes))
    n_later = sum(1 for one in session.nodes[place:] if one.role != "assistant" or one.text or one.tool_calls)
    given = answer_options(services.settings, session.conversation, session.ref)
    options: dict[str, Any] = {name: given[name] for name in _OF_PROMPTS if name in given}
    if session.tools is not None and (specs := session.tools.specs()):
        options["tools"] = list(specs)
    return AnswerToView(messages[: len(messages) - n_later], node.text, llm, reasoning=node.reasoning, options=options)


async def go_another_way(session: ChatSession, node: Node, wanted: Resample) -> None:
    """Answer again, beginning with the text that was chosen: a new branch beside the message."""
    if not wanted.text:
        await session.regenerate(node.id)
        return
    await session.edit(node.id, wanted.text)
    await session.resume()
