"""Tools that models may call: MCP servers of the user's, asked one call at a time."""

from localllm.tools.approval import Approvals, PendingCall, Verdict
from localllm.tools.config import ServerConfig, ToolConfig, config_file, load_tool_config
from localllm.tools.connection import ServerState
from localllm.tools.results import ToolResult
from localllm.tools.runner import ToolRunner
from localllm.tools.servers import NamedTool, ToolServers
from localllm.tools.tool import ServerTool

__all__ = [
    "Approvals",
    "NamedTool",
    "PendingCall",
    "ServerConfig",
    "ServerState",
    "ServerTool",
    "ToolConfig",
    "ToolResult",
    "ToolRunner",
    "ToolServers",
    "Verdict",
    "config_file",
    "load_tool_config",
]
