"""`localllm eval @lab`: perplexity of a remote's model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from localllm._version import __version__
from localllm.cli.numbers import estimate, json_text
from localllm.cli.output_files import show_report
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.cli.tables import table
from localllm.evaluate import default_text, read_text
from localllm.evaluate.remote_perplexity import RemoteEvaluation, remote_perplexity
from localllm.evaluate.text import DEFAULT_NAME
from localllm.hub.refs import RemoteRef
from localllm.printable import harmless
from localllm.remotes import RemoteClient, remote_of


@dataclass(frozen=True)
class RemoteReport:
    """What was measured, and on what."""

    model: str
    engine: str
    text_name: str
    text: str
    found: RemoteEvaluation

    def json(self) -> str:
        """Return one JSON object."""
        return json_text(
            {
                "version": __version__,
                "model": self.model,
                "engine": self.engine,
                "text": self.text_name,
                "text_sha256": sha256(self.text.encode()).hexdigest(),
                **asdict(self.found),
            }
        )

    def lines(self) -> Iterator[str]:
        """Yield the table."""
        row = (harmless(self.model), self.engine, estimate(self.found.perplexity, ".4f"))
        yield from table([("model", "engine", "perplexity"), row], (2,))

    def remarks(self) -> Iterator[str]:
        """Yield what one must know to read it."""
        found = self.found
        yield (
            f"{found.n_scored} tokens scored, in {found.n_chunks} chunks of {found.n_ctx}; "
            f"{found.n_requests} requests in {found.seconds:.0f} s."
        )
        yield "± is one standard error. Comparable with `localllm eval` of a file on the same text and --n-ctx."


def eval_remote(
    ref: RemoteRef, text_file: Path | None, n_ctx: int, n_chunks: int | None, json_file: str | None
) -> None:
    """Measure a remote's model and print what was found.

    Raises:
        RequestError: its server has no way to tell.
        LocalLLMError: it cannot be asked.
    """
    text = default_text() if text_file is None else read_text(text_file)
    client = RemoteClient(remote_of(ref))
    status = StatusLine(LOG_EVERY_S)
    try:
        found = remote_perplexity(
            client, text, n_ctx, n_chunks, lambda n_done, n_all: status.show(f"token {n_done} of {n_all}")
        )
    finally:
        status.clear()
    name = DEFAULT_NAME if text_file is None else str(text_file)
    show_report(RemoteReport(client.card.id, client.engine.name, name, text, found), json_file)
