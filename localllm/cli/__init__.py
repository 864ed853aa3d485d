"""The command line: one module per verb. Nothing is imported here before a verb is known."""

from __future__ import annotations


def main() -> int:
    """Run the command line of this process and return its exit code."""
    import sys
    from io import TextIOWrapper

    from localllm.cli.app import app
    from localllm.cli.errors import guarded

    # A model may say what the terminal's encoding has no byte for.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    return guarded(lambda: app.main(prog_name="localllm", standalone_mode=False))
