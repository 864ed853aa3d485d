"""Where things live on this computer.

LOCALLLM_HOME, where set, holds everything; else each kind goes where the operating system wants it. Nothing
is created by asking; `ensure` creates a directory when something is about to be written.
"""

from __future__ import annotations

import os
from pathlib import Path

from localllm.errors import RequestError

APP_NAME = "localllm"
HOME_VARIABLE = "LOCALLLM_HOME"


def config_dir() -> Path:
    """Return the directory of settings that people edit."""
    return _directory("config")


def config_file() -> Path:
    """Return the settings file; it need not exist."""
    return config_dir() / "config.toml"


def cache_dir() -> Path:
    """Return the directory of what can be made again: saved prompt states, listings."""
    return _directory("cache")


def data_dir() -> Path:
    """Return the directory of what cannot be made again: conversations."""
    return _directory("data")


def models_dir() -> Path:
    """Return the directory of models that belong to this program alone."""
    return data_dir() / "models"


def logs_dir() -> Path:
    """Return the directory of log files."""
    return _directory("log")


def ensure(directory: Path) -> Path:
    """Create `directory`, for this user alone, and return it.

    Raises:
        RequestError: it cannot be created; the message has the system's reason.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"Cannot create {directory}: {error.strerror}.",
            hint=f"Set {HOME_VARIABLE} to a directory of yours.",
        ) from error
    return directory


def _directory(kind: str) -> Path:
    home = os.environ.get(HOME_VARIABLE)
    if home:
        return Path(os.path.abspath(os.path.expanduser(home))) / kind
    # platformdirs costs 15 ms to import, which a command that is told its home need not pay.
    from platformdirs import PlatformDirs

    directories = PlatformDirs(APP_NAME, appauthor=False)
    return Path(getattr(directories, f"user_{kind}_dir"))
