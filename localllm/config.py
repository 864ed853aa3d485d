"""Settings: flag > environment > file > default, checked once.

    settings = load_settings({"n_ctx": 8192})
    settings.n_ctx              # 8192
    settings.source("n_ctx")    # "--n-ctx"
    Settings.help("n_ctx")      # one line for --help and the documentation

A setting `n_ctx` is the flag --n-ctx, the variable LOCALLLM_N_CTX and the key `n_ctx` of the file. To add a
setting, add a field to `Settings`. This module does not know what the settings are used for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast

from localllm import paths
from localllm import setting_values as parse
from localllm.errors import RequestError
from localllm.setting_values import KV_TYPE_NAMES, Choice, Parse, as_text, as_toml

VARIABLE_PREFIX = "LOCALLLM_"

API_KEY_VARIABLE = "LOCALLLM_API_KEY"
"""The key that clients of the server must have."""

OTHER_VARIABLES = frozenset({paths.HOME_VARIABLE, "LOCALLLM_DEBUG", API_KEY_VARIABLE})
"""Variables with our prefix that are not settings; LOCALLLM_TEST_… are the tests' own."""

SPEC_MODES = ("auto", "off", "ngram", "lookahead", "draft")
LOG_LEVELS = ("debug", "info", "warning", "error")
SEND_KEYS = ("enter", "ctrl+enter", "alt+enter")


def _setting(default: Any, parser: Parse, help_line: str) -> Any:
    return field(default=default, metadata={"parse": parser, "help": help_line})


@dataclass(frozen=True)
class Settings:
    """Every setting, decided. Make one with `load_settings`."""

    model: str | None = _setting(None, parse.text, "The model to use: a name, or the path of a GGUF file.")
    model_dirs: tuple[Path, ...] = _setting(
        (),
        parse.folders,
        f"More folders to look for models in, with {os.pathsep} between them; what is in them stays there.",
    )
    n_ctx: int | None = _setting(
        None,
        parse.integer(1, 2**31 - 256, none_is="auto"),
        "Context in tokens, shared by all slots; auto: what the model and the memory allow.",
    )
    threads: int | None = _setting(
        None, parse.integer(1, 512, none_is="auto"), "Threads to compute with; auto: the performance cores."
    )
    gpu_layers: int | Literal["auto", "all"] = _setting(
        "auto", parse.gpu_layers, "Layers to put on the GPU: a count, all, or auto: as many as fit."
    )
    rpc: tuple[str, ...] = _setting(
        (),
        parse.endpoints,
        "Compute also on the devices of llama.cpp RPC servers: HOST:PORT, several with commas; none: only here.",
    )
    kv_type: str = _setting(
        "f16",
        parse.kv_type,
        f"How keys and values are stored, one type or K,V: {', '.join(KV_TYPE_NAMES)}; "
        "auto: f16, or q8_0 where memory is short.",
    )
    kv_type_k: str | None = _setting(None, parse.kv_type_of_side, "The same for keys alone; same: as --kv-type.")
    kv_type_v: str | None = _setting(None, parse.kv_type_of_side, "The same for values alone; same: as --kv-type.")
    kv_store: int = _setting(
        2 << 30,
        parse.size(zero_is="off"),
        "Disk for prompts that need not be computed again, such as 2GB; off: none are kept after the end.",
    )
    spec: Literal["auto", "off", "ngram", "lookahead", "draft"] = _setting(
        "auto",
        parse.Choice(*SPEC_MODES),
        "Draft tokens and check several at once: auto: where it pays; off; or always: ngram: wherever the text repeats,"
        " lookahead: guessed by the model itself, draft: by the draft model.",
    )
    spec_lookup: Literal["own", "shared"] = _setting(
        "own",
        parse.Choice("own", "shared"),
        "Where n-gram lookup looks: the request's own text, or shared: also what earlier requests said, whoever asked.",
    )
    draft_model: str | None = _setting(
        None,
        parse.text_or_none,
        "A small model with the same vocabulary that drafts tokens: a name, or the path of a GGUF file; none: no such.",
    )
    seed: int | None = _setting(
        None, parse.integer(0, 2**32 - 1, none_is="random"), "Seed of the sampler; random draws one each time."
    )
    temperature: float = _setting(
        0.8, parse.number(0, 100), "How freely tokens are drawn; 0 always takes the likeliest."
    )
    top_p: float = _setting(
        0.95, parse.number(0, 1), "Draw from the likeliest tokens that together have this probability; 1 is off."
    )
    top_k: int = _setting(40, parse.integer(0, 2**31 - 1), "Draw from this many likeliest tokens; 0 is off.")
    min_p: float = _setting(
        0.05, parse.number(0, 1), "Drop tokens less probable than this share of the likeliest one's; 0 is off."
    )
    max_tokens: int | None = _setting(
        None,
        parse.integer(1, 2**31 - 1, none_is="none"),
        "Tokens to generate at most; none: until the model ends its answer.",
    )
    context_policy: Literal["error", "shift", "sinks"] = _setting(
        "error",
        parse.Choice("error", "shift", "sinks"),
        "When the context is full: error ends the answer; shift keeps the system prompt and forgets the oldest of the"
        " rest; sinks keeps the first tokens (StreamingLLM).",
    )
    n_sink: int = _setting(4, parse.integer(0, 2**31 - 1), "Tokens at the beginning that --context-policy sinks keeps.")
    system: str | None = _setting(None, parse.text, "The system prompt.")
    log_level: str = _setting("warning", parse.Choice(*LOG_LEVELS), f"How much to log: {', '.join(LOG_LEVELS)}.")

    theme: str = _setting("auto", parse.text, "The colours of the interface: a theme's name; auto: as the terminal is.")
    sidebar: Literal["auto", "show", "hide"] = _setting(
        "auto",
        parse.Choice("auto", "show", "hide"),
        "The list of conversations beside the chat; auto: where the terminal is wide.",
    )
    send_with: str = _setting(
        "enter",
        parse.Choice(*SEND_KEYS),
        "The key that sends a message; with another than enter, Enter breaks the line. Not every terminal tells"
        " ctrl+enter from Enter.",
    )
    keymap: tuple[tuple[str, str], ...] = _setting(
        (), parse.keymap, "Keys of your own: bindings and their keys, such as chat.new=f8; F1 lists all bindings."
    )

    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Setting to where its value is from; a setting that is not in it has its default."""

    @property
    def kv_types(self) -> tuple[str, str]:
        """The types of K and V; what is said of one alone goes before what is said of both."""
        both_k, _, both_v = self.kv_type.partition(",")
        return self.kv_type_k or both_k, self.kv_type_v or both_v or both_k

    def source(self, name: str) -> str:
        """Return where the value of `name` is from: a flag, a variable, the file's path, or "default".

        Raises:
            RequestError: there is no such setting.
        """
        _field_of(name, "settings")
        return self.sources.get(name, "default")

    def text(self, name: str) -> str:
        """Return the value of `name` as one would write it; empty if it has none.

        Raises:
            RequestError: there is no such setting.
        """
        return as_text(getattr(self, name), _field_of(name, "settings").metadata["parse"])

    @classmethod
    def parsed(cls, name: str, text: str) -> object:
        """Return the value that a text means for `name`.

        Raises:
            RequestError: there is no such setting, or the value is not allowed.
        """
        _field_of(name, "settings")
        return _checked(name, text, name)

    @classmethod
    def toml(cls, name: str, text: str) -> str:
        """Return a text for `name` as the file has it: TOML.

        Raises:
            RequestError: as `parsed`.
        """
        value = cls.parsed(name, text)
        return as_toml(value if isinstance(value, int | float) and name != "kv_store" else text)

    @classmethod
    def choices(cls, name: str) -> tuple[str, ...]:
        """Return all values of `name`, if they are few and known.

        Raises:
            RequestError: there is no such setting.
        """
        parser = _field_of(name, "settings").metadata["parse"]
        return parser.names if isinstance(parser, Choice) else ()

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of `name`."""
        return _variable(name)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all settings."""
        return tuple(_FIELDS)

    @classmethod
    def help(cls, name: str) -> str:
        """Return the line that explains `name`.

        Raises:
            RequestError: there is no such setting.
        """
        return cast(str, _field_of(name, "settings").metadata["help"])


_FIELDS: dict[str, Field[Any]] = {item.name: item for item in fields(Settings) if item.metadata}


def load_settings(
    flags: Mapping[str, object] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Read and check the settings.

    Args:
        flags: setting to value; None is a flag that was not given.
        environ: the environment; None is this process's. An empty variable is one that is not set.
        file: the TOML file, which need not exist; None is `paths.config_file()`.

    Raises:
        RequestError: a key is unknown, a value is not allowed, or the file is not TOML or cannot be read.
    """
    file = paths.config_file() if file is None else file
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    # From the weakest to the strongest, and all are checked: a broken file should be told of today, not on
    # the day when the flag that hides it is left out.
    for name, value in _read_file(file).items():
        values[name] = _checked(name, value, f"{name} in {file}")
        sources[name] = str(file)
    for name, text in _read_environment(os.environ if environ is None else environ).items():
        sources[name] = _variable(name)
        values[name] = _checked(name, text, sources[name])
    for name, value in (flags or {}).items():
        _field_of(name, "flags")
        if value is not None:
            sources[name] = f"--{name.replace('_', '-')}"
            values[name] = _checked(name, value, sources[name])
    return Settings(**values, sources=sources)


def _checked(name: str, value: object, origin: str) -> object:
    """Return the value in its own type, or raise a RequestError that names its origin and what is allowed."""
    try:
        return _FIELDS[name].metadata["parse"](value)
    except ValueError as error:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        raise RequestError(f"{origin} is {shown}; it must be {error}.", hint=Settings.help(name)) from None


def _field_of(name: str, where: str) -> Field[Any]:
    found = _FIELDS.get(name)
    if found is None:
        raise _unknown(name, where, str)
    return found


def _unknown(name: str, where: str, spelt: Callable[[str], str]) -> RequestError:
    """Return the error for no such setting; `spelt` writes a name as people write it in `where`."""
    begun = [known for known in _FIELDS if name and known.startswith(name)]
    near = begun or get_close_matches(name, _FIELDS, n=1)
    guess = f" Did you mean {spelt(near[0])}?" if near else ""
    return RequestError(
        f"Unknown setting {spelt(name)} in {where}.{guess}",
        hint=f"The settings are {', '.join(spelt(known) for known in _FIELDS)}.",
    )


def _variable(name: str) -> str:
    return VARIABLE_PREFIX + name.upper()


def _read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return setting to text for the variables that are settings, in a fixed order."""
    found = {}
    for variable in sorted(environ):
        is_ours = variable.startswith(VARIABLE_PREFIX) and variable not in OTHER_VARIABLES
        if not is_ours or variable.startswith("LOCALLLM_TEST_") or not environ[variable]:
            continue
        name = variable.removeprefix(VARIABLE_PREFIX).lower()
        if name not in _FIELDS or variable != _variable(name):
            raise _unknown(name, "the environment", _variable)
        found[name] = environ[variable]
    return found


def _read_file(file: Path) -> dict[str, object]:
    """Return the file's keys, all known; nothing if there is no such file."""
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise RequestError(f"Cannot read {file}: {reason}.", hint="Mend or remove the file.") from error
    # tomllib costs 12 ms to import, and most people have no file.
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestError(f"{file} is not TOML: {error}.", hint="Write lines like n_ctx = 8192.") from error
    for name in found:
        _field_of(name, str(file))
    return found
