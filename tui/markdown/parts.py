"""What Markdown is made of: markdown-it's tokens, put in rows that a width can be given to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from textual.content import Content

from tui.markdown.inline import inline_content

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

Align = Literal["left", "center", "right"]
_QUOTE = "▎ "
_BULLETS = "•◦▪"
_HEADINGS = {"h1": "bold underline $text-primary", "h2": "bold $text-primary"}
_LOW_HEADING = "bold"
_ALIGNS: dict[str, Align] = {"text-align:center": "center", "text-align:right": "right"}


@dataclass(frozen=True)
class Margin:
    """What stands to the left of a row: a bullet before its first line, and bars of quotes."""

    first: str = ""
    rest: str = ""

    def inside(self, first: str, rest: str) -> Margin:
        """Return the margin of what is inside one with this margin."""
        return Margin(self.first + first, self.rest + rest)

    def after_first(self) -> Margin:
        return Margin(self.rest, self.rest)


@dataclass(frozen=True)
class Words:
    """A paragraph or a heading."""

    margin: Margin
    content: Content
    style: str = ""


@dataclass(frozen=True)
class CodeRow:
    """Code, in a fence or indented."""

    margin: Margin
    language: str
    text: str


@dataclass(frozen=True)
class TableRow:
    """A table: all of it is one row, since its columns depend on all cells."""

    margin: Margin
    cells: tuple[tuple[Content, ...], ...]
    """The header first."""
    aligns: tuple[Align, ...]


@dataclass(frozen=True)
class RuleRow:
    """A line across."""

    margin: Margin


@dataclass(frozen=True)
class Gap:
    """An empty line."""

    margin: Margin


Row = Words | CodeRow | TableRow | RuleRow | Gap


def rows_of(source: str) -> list[Row]:
    """Return the rows of a piece of Markdown that stands on its own."""
    return _Reader(_parser().parse(source)).rows(Margin())


def language_of(info: str) -> str:
    """Return the language that a fence names; "" where it names none."""
    words = info.split()
    return words[0].strip("{}.").lower() if words else ""


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


class _Reader:
    """Goes through the tokens once; blocks are inside blocks, down to markdown-it's own limit."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._n_lists = 0

    def rows(self, margin: Margin, end: str = "", *, is_tight: bool = False) -> list[Row]:
        """Return the rows up to the token `end`, an empty line between blocks unless they are tight."""
        rows: list[Row] = []
        while self._at < len(self._tokens):
            token = self._next()
            if token.type == end:
                break
            block = self._block(token, margin.after_first() if rows else margin)
            if rows and block and not is_tight:
                rows.append(Gap(margin.after_first()))
            rows += block
        return rows

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _block(self, token: Token, margin: Margin) -> list[Row]:
        match token.type:
            case "paragraph_open":
                return [Words(margin, self._inline("paragraph_close"))]
            case "heading_open":
                style = _HEADINGS.get(token.tag, _LOW_HEADING)
                return [Words(margin, self._inline("heading_close"), style)]
            case "bullet_list_open" | "ordered_list_open":
                return self._list(token, margin)
            case "blockquote_open":
                return self.rows(margin.inside(_QUOTE, _QUOTE), "blockquote_close")
            case "fence" | "code_block":
                return [CodeRow(margin, language_of(token.info), token.content)]
            case "table_open":
                return [self._table(margin)]
            case "hr":
                return [RuleRow(margin)]
        return []

    def _inline(self, end: str) -> Content:
        content = Content("")
        while (token := self._next()).type != end:
            content = inline_content(token.children or ())
        return content

    def _list(self, token: Token, margin: Margin) -> list[Row]:
        end = token.type.replace("open", "close")
        is_ordered = token.type == "ordered_list_open"
        number = int(token.attrs.get("start", 1))
        bullet = _BULLETS[min(self._n_lists, len(_BULLETS) - 1)]
        is_tight = self._is_tight()
        self._n_lists += 1
        rows: list[Row] = []
        while self._next().type != end:
            mark = f"{number}. " if is_ordered else f"{bullet} "
            number += 1
            inside = (margin.after_first() if rows else margin).inside(mark, " " * len(mark))
            item = self.rows(inside, "list_item_close", is_tight=is_tight) or [Words(inside, Content(""))]
            if rows and not is_tight:
                rows.append(Gap(margin.after_first()))
            rows += item
        self._n_lists -= 1
        return rows

    def _is_tight(self) -> bool:
        first = self._tokens[self._at + 1]
        return first.type != "paragraph_open" or first.hidden

    def _table(self, margin: Margin) -> TableRow:
        rows: list[list[Content]] = []
        aligns: list[Align] = []
        while (token := self._next()).type != "table_close":
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append(inline_content(token.children or ()))
            elif token.type == "th_open":
                aligns.append(_ALIGNS.get(str(token.attrs.get("style", "")), "left"))
        return TableRow(margin, tuple(tuple(row) for row in rows), tuple(aligns))
