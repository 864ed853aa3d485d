"""What the interface knows of settings: their groups, when they take effect, and how one is changed in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localllm.config import Settings, load_settings
from localllm.setting_values import quoted

if TYPE_CHECKING:
    from localllm.settings_file import SettingsFile

KEYMAP = "keymap"


@dataclass(frozen=True)
class Group:
    """Settings that belong together."""

    title: str
    takes_effect: str
    names: tuple[str, ...]


GROUPS = (
    Group("Interface", "at once", ("theme", "keymap", "sidebar", "send_with")),
    Group(
        "Model and memory",
        "when a model is loaded next",
        (
            "model", "model_dirs", "n_ctx", "threads", "gpu_layers", "rpc", "kv_type", "kv_type_k", "kv_type_v",
            "kv_store",
        ),
    ),
    Group("Speculation", "when a model is loaded next", ("spec", "spec_lookup", "draft_model")),
    Group(
        "Sampling",
        "with the next answer",
        ("temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "system"),
    ),
    Group("Context", "with the next answer", ("context_policy", "n_sink")),
    Group("Server", "when a server is started next", ("log_level",)),
)  # fmt: skip


def group_of(name: str) -> Group:
    """Return the group of a setting."""
    return next(group for group in GROUPS if name in group.names)


def reloaded(settings: Settings) -> Settings:
    """Return the settings anew, with the flags that the program was started with.

    Raises:
        RequestError: what the file or the environment says is not allowed.
    """
    flags = {name: settings.text(name) for name in Settings.names() if settings.source(name).startswith("--")}
    return load_settings(flags)


def write_setting(file: SettingsFile, name: str, text: str) -> None:
    """Write a setting into the file; no text takes it out.

    Raises:
        RequestError: the value is not allowed, or the file cannot be changed.
    """
    if name == KEYMAP:
        return _write_keymap(file, text)
    return file.set(name, Settings.toml(name, text) if text else None)


def write_keys(file: SettingsFile, binding_id: str, keys: str | None) -> None:
    """Write the keys of one binding into the file; None takes them out.

    Raises:
        RequestError: the file cannot be changed.
    """
    file.set(binding_id, None if keys is None else quoted(keys), KEYMAP)


def _write_keymap(file: SettingsFile, text: str) -> None:
    parsed = Settings.parsed(KEYMAP, text)
    assert isinstance(parsed, tuple)
    file.remove_table(KEYMAP)
    for binding_id, keys in parsed:
        write_keys(file, binding_id, keys)


def where_from(settings: Settings, name: str) -> str:
    """Return in two words where the value of a setting is from."""
    source = settings.source(name)
    if source == "default" or source.startswith("--"):
        return source
    return source if source == Settings.variable(name) else "file"


def overrides(settings: Settings, name: str) -> str:
    """Return what goes before the file for a setting, as a sentence; empty if nothing does."""
    source = where_from(settings, name)
    if source in ("default", "file"):
        return ""
    kind = "The flag" if source.startswith("--") else "The variable"
    return f"{kind} {source} goes before the file: what is written here counts when it is not given."
