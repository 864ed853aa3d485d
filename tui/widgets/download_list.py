"""The downloads, one a line, with how far each is."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.downloads import Download
from tui.model_texts import clean, download_text


class DownloadList(OptionList):
    """The downloads that are not done with. Hidden while there are none."""

    DEFAULT_CSS = """
    DownloadList {
        height: auto;
        max-height: 8;
        border: round $border;
        border-title-color: $text-muted;
        background: transparent;
        padding: 0 1;
        display: none;
        &.-any { display: block; }
        &:focus { border: round $primary; }
    }
    """

    def __init__(self) -> None:
        super().__init__(id="download-list")
        self.border_title = "Downloads: Space pauses and resumes, x takes one off"

    @property
    def chosen(self) -> int | None:
        """The id of the download under the cursor."""
        option = self.highlighted_option
        return None if option is None or option.id is None else int(option.id)

    def show(self, downloads: Sequence[Download]) -> None:
        """Show these downloads."""
        self.set_class(bool(downloads), "-any")
        if [option.id for option in self.options] == [str(one.id) for one in downloads]:
            for one in downloads:
                self.replace_option_prompt(str(one.id), _line(one))
            return
        chosen = self.chosen
        self.clear_options()
        self.add_options([Option(_line(one), id=str(one.id)) for one in downloads])
        ids = [one.id for one in downloads]
        if ids:
            self.highlighted = ids.index(chosen) if chosen in ids else 0


def _line(download: Download) -> Content:
    return Content(f"{clean(download.ref)}  {download_text(download)}")
