"""A memory as a bar: who holds how much, told apart by patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from textual.content import Content
from textual.widgets import Static

from localllm.printable import harmless
from tui.figures import format_bytes
from tui.machine.memory import Memory

_SIGNS = {
    "others": ("▒", "$text-muted"),
    "weights": ("█", "$primary"),
    "models": ("█", "$primary"),
    "KV": ("▓", "$warning"),
    "compute": ("▚", "$success"),
    "shared with a GPU": ("▞", "$primary"),
    "served": ("▀", "$secondary"),
}
_FREE = ("·", "$text-muted")
_LEAST = 10


class MemoryGauges(Static):
    """A bar and a line of numbers for each memory."""

    DEFAULT_CSS = """
    MemoryGauges {
        height: auto;
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__("", id=id)
        self._memories: tuple[Memory, ...] = ()

    def show(self, memories: Sequence[Memory]) -> None:
        """Draw these."""
        if tuple(memories) != self._memories:
            had = len(self._memories)
            self._memories = tuple(memories)
            self.refresh(layout=had != len(self._memories))

    def render(self) -> Content:
        width = max(_LEAST, self.size.width)
        if not self._memories:
            return Content.styled("Looking at the memory…", "$text-muted")
        return Content("\n").join(line for memory in self._memories for line in _lines(memory, width))

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return max(1, sum(len(list(_lines(memory, max(_LEAST, width)))) for memory in self._memories))


def bar(memory: Memory, width: int) -> list[tuple[str, int]]:
    """Return who has how many of `width` characters, the free ones last; who has anything has one."""
    total = max(1, memory.total_bytes)
    found: list[tuple[str, int]] = []
    left = width
    for part in memory.parts:
        n = min(left, max(1, round(width * part.n_bytes / total)))
        found.append((part.name, n))
        left -= n
    return [*found, ("free", left)]


def _lines(memory: Memory, width: int) -> Iterator[Content]:
    title = f"{harmless(memory.name)}, {format_bytes(memory.total_bytes)}"
    yield Content.styled(title[:width], "bold")
    yield Content.assemble(
        *((_SIGNS.get(name, _FREE)[0] * n, _SIGNS.get(name, _FREE)[1]) for name, n in bar(memory, width))
    )
    line = Content("")
    for name, n_bytes in [*((part.name, part.n_bytes) for part in memory.parts), ("free", memory.free_bytes)]:
        sign, style = _SIGNS.get(name, _FREE)
        item = Content.assemble((sign, style), f" {name} {format_bytes(n_bytes)}  ")
        if line.cell_length + item.cell_length > width + 2 and line.cell_length:
            yield line
            line = Content("")
        line += item
    yield line
