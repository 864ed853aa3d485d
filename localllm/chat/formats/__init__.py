"""How families of models are shown tools, call them, and think: parsers of what they write, grammars for it."""

from localllm.chat.formats.base import Format, Thinking
from localllm.chat.formats.detect import detect_format
from localllm.chat.formats.events import CallDelta, CallEnd, Content, FormatEvent, Reasoning
from localllm.chat.formats.parser import StreamParser, ThinkingTags
from localllm.chat.formats.tools import Tool, Toolbox, parse_toolbox

__all__ = [
    "CallDelta",
    "CallEnd",
    "Content",
    "Format",
    "FormatEvent",
    "Reasoning",
    "StreamParser",
    "Thinking",
    "ThinkingTags",
    "Tool",
    "Toolbox",
    "detect_format",
    "parse_toolbox",
]
