"""The tools of one chat: what its model is told of, and each call from the model's wish to the answer."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from localllm.chat.messages import ToolCall
from localllm.errors import LocalLLMError
from localllm.tools.approval import Approvals, PendingCall, Verdict
from localllm.tools.results import ToolResult
from localllm.tools.servers import ToolServers

Ask = Callable[[PendingCall], Awaitable[Verdict]]
"""Shows a call to the user, and waits for what they say."""


class ToolRunner:
    """Runs the calls of one chat.

    Args:
        servers: whose tools there are.
        ask: asks the user.
        approvals: what this chat's user has decided so far.
    """

    def __init__(self, servers: ToolServers, ask: Ask, approvals: Approvals | None = None) -> None:
        self.servers = servers
        self.approvals = approvals or Approvals()
        self._ask = ask

    async def prepare(self) -> None:
        """Start the servers that are not ready, so that `specs` knows their tools.

        Raises:
            ToolServerError: the library is not installed.
        """
        await self.servers.start_all()

    def specs(self) -> list[dict[str, Any]]:
        """Return what the option `tools` is: the tools that are on in this chat."""
        tools = [named for named in self.servers.tools if self.approvals.is_on(named.model_name)]
        return [named.tool.spec(named.model_name) for named in tools]

    async def run(self, call: ToolCall) -> str:
        """Make a call, if the user allows it, and return what the model is told; errors say that they are."""
        result = await self.result(call.function.name, call.function.arguments)
        return f"Error: {result.text}" if result.is_error else result.text

    async def result(self, name: str, arguments_json: str) -> ToolResult:
        """Make one call, if the user allows it. What goes wrong is an answer that the model can read.

        Args:
            name: what the model called.
            arguments_json: the arguments as it wrote them.
        """
        named = self.servers.find(name)
        if named is None or not self.approvals.is_on(name):
            return ToolResult(f"There is no tool {name!r}.", is_error=True)
        try:
            arguments = json.loads(arguments_json or "{}")
        except (ValueError, RecursionError) as error:
            return ToolResult(f"The arguments are not JSON: {error}.", is_error=True)
        if not isinstance(arguments, dict):
            return ToolResult("The arguments must be a JSON object.", is_error=True)
        verdict = await self._verdict(PendingCall(named, arguments))
        if not verdict.is_allowed:
            return ToolResult(_refusal(verdict), is_error=True)
        try:
            return await self.servers.call(name, arguments)
        except LocalLLMError as error:
            return ToolResult(error.message, is_error=True)

    async def _verdict(self, call: PendingCall) -> Verdict:
        name = call.named.model_name
        verdict = self.approvals.standing(name)
        if verdict is None:
            verdict = await self._ask(call)
            self.approvals.remember(name, verdict)
        return verdict


def _refusal(verdict: Verdict) -> str:
    reason = f" They say: {verdict.reason}" if verdict.reason else ""
    return f"The user did not allow this call, so it was not made.{reason}"
