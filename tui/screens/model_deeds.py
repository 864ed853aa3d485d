"""What can be done with the model under the cursor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual.binding import Binding, BindingType

from localllm.errors import LocalLLMError
from tui import messages
from tui.downloads import Download
from tui.model_plans import Plans
from tui.model_rows import ModelRow
from tui.model_texts import clean, share_text, size_text
from tui.screens.choice import Answer, ChoiceScreen
from tui.screens.mode import ModeScreen
from tui.threads import on_a_thread, teller

OTHERS = {"folder": "a folder of yours", "ollama": "Ollama", "lmstudio": "LM Studio"}
"""To whom models belong that are not ours to delete without a word."""


class ModelDeeds(ModeScreen):
    """Fetching, deleting, importing and checking models, and taking them elsewhere."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "chat", "Chat", id="models.chat", tooltip="Begin a conversation with this model"),
        Binding("p", "pull", "Pull", id="models.pull", tooltip="Fetch this model"),
        Binding("space", "pause", "Pause", id="models.pause", show=False, tooltip="Pause or resume a download"),
        Binding("x", "cancel", "Cancel", id="models.cancel", show=False, tooltip="End a download"),
        Binding("d,delete", "delete", "Delete", id="models.delete", tooltip="Delete this model from the disk"),
        Binding("i", "import_file", "Import", id="models.import", show=False, tooltip="Take a GGUF file into the list"),
        Binding("v", "verify", "Verify", id="models.verify", show=False, tooltip="Check the files for damage"),
        Binding("s", "serve", "Serve", id="models.serve", show=False, tooltip="Serve this model over HTTP"),
        Binding("Q", "quantize", "Quantize", id="models.quantize", show=False, tooltip="Make this model smaller"),
        Binding("y", "copy_ref", "Copy name", id="models.copy", show=False, tooltip="Copy the model's name"),
    ]

    plans: Plans

    @property
    def chosen(self) -> ModelRow | None:
        """The model under the cursor."""
        raise NotImplementedError

    @property
    def chosen_download(self) -> Download | None:
        """The download that is meant: under the cursor, or of the model under the cursor, or the only one."""
        raise NotImplementedError

    def say(self, text: str) -> None:
        """Show a line on what goes on here; nothing shows how many models there are."""
        raise NotImplementedError

    def action_chat(self) -> None:
        if row := self._usable():
            self.app.post_message(messages.ChatWith(row.ref))

    def action_serve(self) -> None:
        if row := self._usable():
            self.app.post_message(messages.ServeModel(row.ref))

    def action_quantize(self) -> None:
        if row := self._usable():
            self.app.post_message(messages.QuantizeModel(row.ref))

    def action_copy_ref(self) -> None:
        if self.chosen is not None:
            self.app.copy_to_clipboard(self.chosen.ref)
            self.notify(f"Copied: {clean(self.chosen.ref)}", markup=False)

    def action_pull(self) -> None:
        from tui.screens.pull_dialog import PullDialog

        row = self.chosen
        if row is None or not (row.repo or row.entry is not None):
            self.notify("It is from no hub that it could be fetched from again.", severity="warning")
            return

        def fetch(ref: str | None) -> None:
            if ref is not None:
                self.services.downloads.start(ref)

        self.app.push_screen(PullDialog(row, self.plans), fetch)

    def action_pause(self) -> None:
        download = self.chosen_download
        if download is None:
            return
        if download.phase == "fetching":
            self.services.downloads.pause(download.id)
        else:
            self.services.downloads.resume(download.id)

    async def action_cancel(self) -> None:
        download = self.chosen_download
        if download is None:
            return
        if download.phase == "done" or not download.n_done_bytes:
            await self.services.downloads.cancel(download.id, keeps_bytes=True)
            return
        came = size_text(download.n_done_bytes)
        answers = (
            Answer("no", "n", "Go on"),
            Answer("keep", "k", f"Keep {came}"),
            Answer("delete", "d", f"Delete {came}", is_grave=True),
        )
        lines = ("What is kept is where the next pull goes on.",)
        question = f"End the download of {clean(download.ref)}?"
        self.app.push_screen(ChoiceScreen(question, lines, answers), self._cancelling(download.id))

    def _cancelling(self, download_id: int) -> Callable[[str | None], Awaitable[None]]:
        async def end(answer: str | None) -> None:
            if answer in ("keep", "delete"):
                await self.services.downloads.cancel(download_id, keeps_bytes=answer == "keep")

        return end

    def action_delete(self) -> None:
        row = self.chosen
        if row is None or row.stored is None:
            self.notify("It is not on this disk.", severity="warning")
            return
        self.run_worker(self._ask_to_delete(row), group="delete", exclusive=True)

    async def _ask_to_delete(self, row: ModelRow) -> None:
        from localllm.store.models import Place
        from localllm.store.removal import plan_removal, remove

        assert row.stored is not None
        owner = OTHERS.get(str(row.stored.place))
        try:
            removal = await asyncio.to_thread(plan_removal, [row.stored], [Place(row.stored.place)] if owner else [])
            lines = (
                f"This frees {size_text(removal.freed_bytes) if removal.freed_bytes else '0 B'}.",
                *((f"It belongs to {owner}.",) if owner else ()),
                *removal.remarks,
            )
            answers = (Answer("no", "n", "Keep"), Answer("yes", "y", "Delete", is_grave=True))
            question = f"Delete {clean(row.ref)}?"
            if await self.app.push_screen_wait(ChoiceScreen(question, lines, answers)) == "yes":
                await asyncio.to_thread(remove, removal)
                freed = size_text(removal.freed_bytes) if removal.freed_bytes else "0 B"
                self.notify(f"Freed {freed}.")
        except LocalLLMError as error:
            self._complain(error)
        self.localllm.broadcast(messages.ModelsChanged())

    def action_import_file(self) -> None:
        from tui.screens.import_dialog import ImportDialog

        def imported(model: object) -> None:
            if model is not None:
                self.notify("Imported.")
                self.localllm.broadcast(messages.ModelsChanged())

        self.app.push_screen(ImportDialog(), imported)

    def action_verify(self) -> None:
        row = self.chosen
        if row is None or row.stored is None:
            self.notify("It is not on this disk.", severity="warning")
            return
        self.run_worker(self._verify(row), group="verify")

    async def _verify(self, row: ModelRow) -> None:
        from localllm.store.verifying import Verdict, verify

        assert row.stored is not None
        stored, say, said = row.stored, teller(self.say), -1

        def read(n_done: int, n_total: int) -> None:
            nonlocal said
            if n_total and n_done * 100 // n_total != said:
                said = n_done * 100 // n_total
                say(f"Checking {clean(row.ref)}: {share_text(n_done / n_total)}")

        def run() -> Verdict:
            return next(iter(verify([stored], read)))

        self.say(f"Checking {clean(row.ref)}…")
        verdict = await on_a_thread(run)
        self.say("")
        if verdict.is_ok:
            how = "its SHA-256 is right" if verdict.check == "sha256" else "its header is sound; no digest is known"
            self.notify(f"{clean(row.ref)} is whole: {how}.", markup=False)
        else:
            text = f"{clean(row.ref)} is damaged: {clean(verdict.problem or '', 400)} {verdict.hint or ''}".rstrip()
            self.notify(text, severity="error", markup=False, timeout=15)

    def _usable(self) -> ModelRow | None:
        """Return the model under the cursor if it can be loaded; else say why not."""
        row = self.chosen
        if row is None:
            return None
        if row.is_adapter:
            self.notify("It is an adapter: it is loaded beside the model that it was made for.", severity="warning")
        elif not row.is_here and not row.place:
            self.notify(f"{clean(row.ref)} is not on this disk: p fetches it.", severity="warning", markup=False)
        else:
            return row
        return None

    def _complain(self, error: LocalLLMError) -> None:
        self.notify(f"{error.message} {error.hint or ''}".rstrip(), severity="error", markup=False)
