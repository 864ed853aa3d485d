"""What stands within a paragraph: emphasis, code, links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content, Span
from textual.style import Style

if TYPE_CHECKING:
    from markdown_it.token import Token

CODE_STYLE = "$text-accent on $surface"
LINK_STYLE = "$text-primary underline"
_STYLES = {"em": "italic", "strong": "bold", "s": "strike"}


def inline_content(tokens: Sequence[Token]) -> Content:
    """Return the content of inline tokens, with line feeds where the text breaks by will."""
    maker = _Maker()
    for token in tokens:
        maker.take(token)
    return maker.content()


def link_style(url: str) -> Style:
    """Return what makes a text one that opens `url` when it is clicked."""
    return Style.from_meta({"link": url})


class _Maker:
    def __init__(self) -> None:
        self._texts: list[str] = []
        self._spans: list[Span] = []
        self._n_characters = 0
        self._open: list[tuple[str, int, str]] = []

    def content(self) -> Content:
        return Content("".join(self._texts), self._spans)

    def take(self, token: Token) -> None:
        kind, _, end = token.type.rpartition("_")
        if token.type in ("softbreak", "hardbreak"):
            # Models end a line where they mean it: in poems, addresses, lists without marks.
            self._add("\n")
        elif token.type == "code_inline":
            self._add(token.content, CODE_STYLE)
        elif token.type == "image":
            self._link(f"[image: {token.content or 'without a name'}]", str(token.attrs.get("src", "")))
        elif end == "open":
            self._open.append((kind, self._n_characters, str(token.attrs.get("href", ""))))
        elif end == "close":
            self._close()
        else:
            self._add(token.content)

    def _add(self, text: str, style: str | Style = "") -> None:
        start = self._n_characters
        self._texts.append(text)
        self._n_characters += len(text)
        if style:
            self._spans.append(Span(start, self._n_characters, style))

    def _close(self) -> None:
        kind, start, url = self._open.pop()
        if kind != "link":
            self._spans.append(Span(start, self._n_characters, _STYLES.get(kind, "")))
            return
        said = "".join(self._texts)[start:]
        self._mark_link(start, url)
        if said not in (url, url.removeprefix("mailto:")):
            self._add(f" ({url})", "$text-muted")

    def _link(self, text: str, url: str) -> None:
        start = self._n_characters
        self._add(text)
        self._mark_link(start, url)
        self._add(f" ({url})", "$text-muted")

    def _mark_link(self, start: int, url: str) -> None:
        self._spans.append(Span(start, self._n_characters, LINK_STYLE))
        self._spans.append(Span(start, self._n_characters, link_style(url)))
