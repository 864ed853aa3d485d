"""The person's own editor, for a text that is being written."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from localllm.errors import RequestError

_USUAL = ("nano", "vim", "vi", "notepad")


def editor_command() -> list[str]:
    """Return the command of $VISUAL, $EDITOR or an editor that is there.

    Raises:
        RequestError: none is named and none is there, or what is named cannot be read.
    """
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    try:
        words = shlex.split(named or "")
    except ValueError as error:
        raise RequestError(f"$VISUAL or $EDITOR cannot be read: {named}.", hint="Set it to a command.") from error
    words = words or [name for name in _USUAL if shutil.which(name)][:1]
    if not words:
        raise RequestError("No editor is known.", hint="Set $VISUAL or $EDITOR, for example to nano.")
    return words


def edited(text: str, command: list[str]) -> str:
    """Have `text` edited, and return what it has become.

    Raises:
        RequestError: the editor could not be started or failed; the text is as it was.
    """
    with tempfile.TemporaryDirectory(prefix="localllm-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "question.md"
        path.write_text(text, encoding="utf-8")
        try:
            ended = subprocess.run([*command, str(path)], check=False)
            if ended.returncode:
                raise RequestError(
                    f"{command[0]} ended with status {ended.returncode}.", hint="Your text is as it was before."
                )
            return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise RequestError(f"{command[0]}: {reason}.", hint="Set $VISUAL or $EDITOR to an editor.") from error
