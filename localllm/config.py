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
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, cast

from localllm import paths
from localllm.errors import RequestError

VARIABLE_PREFIX = "LOCALLLM_"

API_KEY_VARIABLE = "LOCALLLM_API_KEY"
"""The key that clients of the server must have."""

OTHER_VARIABLES = frozenset({paths.HOME_VARIABLE, "LOCALLLM_DEBUG", API_KEY_VARIABLE})
"""Variables with our prefix that are not settings; LOCALLLM_TEST_… are the tests' own."""

KV_TYPE_NAMES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
SPEC_MODES = ("auto", "off", "ngram", "lookahead", "draft")
LOG_LEVELS = ("debug", "info", "warning", "error")

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_ENDPOINT = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

Parse = Callable[[object], object]
"""Returns the value in its own type; raises ValueError with what is allowed."""


def _setting(default: Any, parse: Parse, help_line: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help_line})


def _text(value: object) -> object:
    if isinstance(value, str) and "\0" not in value:
        return value
    raise ValueError("text")


def _text_or_none(value: object) -> object:
    """Accept text, or the word "none", which becomes None."""
    return None if value == "none" else _text(value)


def _integer(low: int, high: int, *, none_is: str | None = None) -> Parse:
    """Accept an integer from `low` to `high`, or the word `none_is`, which becomes None."""
    allowed = f"an integer from {low} to {high}" + (f", or {none_is}" if none_is else "")

    def parse(value: object) -> object:
        if none_is and value == none_is:
            return None
        number = _as_integer(value)
        if number is None or not low <= number <= high:
            raise ValueError(allowed)
        return number

    return parse


def _as_integer(value: object) -> int | None:
    """Return an int or its decimal text as int; bool is no number here, and int() would take " 1_0 "."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    # Longer texts are out of every range, and Python refuses to convert those of thousands of digits.
    if isinstance(value, str) and len(value) <= 20 and value.removeprefix("-").isdecimal():
        return int(value)
    return None


def _number(low: float, high: float) -> Parse:
    allowed = f"a number from {low:g} to {high:g}"

    def parse(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(allowed)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise ValueError(allowed) from None
        if not low <= number <= high:
            raise ValueError(allowed)
        return number

    return parse


def _choice(*names: str) -> Parse:
    def parse(value: object) -> object:
        if isinstance(value, str) and value in names:
            return value
        near = get_close_matches(value.lower(), names, n=1) if isinstance(value, str) else []
        raise ValueError(f"one of {', '.join(names)}" + (f" (did you mean {near[0]}?)" if near else ""))

    return parse


def _gpu_layers(value: object) -> object:
    if value in ("auto", "all"):
        return value
    number = _as_integer(value)
    if number is None or not 0 <= number < 2**31:
        raise ValueError("auto, all, or an integer of 0 or more")
    return number


_one_kv_type = _choice(*KV_TYPE_NAMES, "auto")


def _kv_type(value: object) -> object:
    """Accept one name for K and V, or two with a comma between."""
    parts = value.split(",") if isinstance(value, str) else [value]
    if len(parts) > 2:
        raise ValueError("one type for both, or K,V")
    for part in parts:
        _one_kv_type(part)
    return value


def _kv_type_of_side(value: object) -> object:
    """Accept a name, or the word for what --kv-type says, which becomes None."""
    return None if value == "same" else _one_kv_type(value)


def _endpoints(value: object) -> object:
    """Accept "host:port,host:port", or the word "none"."""
    if isinstance(value, tuple):
        return value
    if value == "none":
        return ()
    found = [part.strip() for part in value.split(",")] if isinstance(value, str) else [""]
    if not all(_ENDPOINT.fullmatch(part) and int(part.rpartition(":")[2]) < 1 << 16 for part in found):
        raise ValueError("HOST:PORT, several with commas, or none")
    return tuple(found)


def parse_size(value: object) -> int:
    """Return the bytes of a size such as "512MB" or "12 GiB"; units are powers of 1024.

    Raises:
        ValueError: it is no size; says what is allowed.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 40 else None
    if found is None:
        raise ValueError("a size such as 512MB or 12GB")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def _folders(value: object) -> object:
    """Accept a list of folders, or a text with the system's separator of paths between them; ~ is one's home."""
    parts = value.split(os.pathsep) if isinstance(value, str) else value
    allowed = f"folders, with {os.pathsep} between them, or a list of folders"
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) and "\0" not in part for part in parts):
        raise ValueError(allowed)
    return tuple(Path(os.path.abspath(os.path.expanduser(part))) for part in parts if part)


def _size(*, zero_is: str) -> Parse:
    """Accept a size, or the word `zero_is`, which becomes 0."""

    def parse(value: object) -> object:
        try:
            return 0 if value == zero_is else parse_size(value)
        except ValueError as error:
            raise ValueError(f"{error}, or {zero_is}") from None

    return parse


@dataclass(frozen=True)
class Settings:
    """Every setting, decided. Make one with `load_settings`."""

    model: str | None = _setting(None, _text, "The model to use: a name, or the path of a GGUF file.")
    model_dirs: tuple[Path, ...] = _setting(
        (),
        _folders,
        f"More folders to look for models in, with {os.pathsep} between them; what is in them stays there.",
    )
    n_ctx: int | None = _setting(
        None,
        _integer(1, 2**31 - 256, none_is="auto"),
        "Context in tokens, shared by all slots; auto: what the model and the memory allow.",
    )
    threads: int | None = _setting(
        None, _integer(1, 512, none_is="auto"), "Threads to compute with; auto: the performance cores."
    )
    gpu_layers: int | Literal["auto", "all"] = _setting(
        "auto", _gpu_layers, "Layers to put on the GPU: a count, all, or auto: as many as fit."
    )
    rpc: tuple[str, ...] = _setting(
        (),
        _endpoints,
        "Compute also on the devices of llama.cpp RPC servers: HOST:PORT, several with commas; none: only here.",
    )
    kv_type: str = _setting(
        "f16",
        _kv_type,
        f"How keys and values are stored, one type or K,V: {', '.join(KV_TYPE_NAMES)}; "
        "auto: f16, or q8_0 where memory is short.",
    )
    kv_type_k: str | None = _setting(None, _kv_type_of_side, "The same for keys alone; same: as --kv-type.")
    kv_type_v: str | None = _setting(None, _kv_type_of_side, "The same for values alone; same: as --kv-type.")
    kv_store: int = _setting(
        2 << 30,
        _size(zero_is="off"),
        "Disk for prompts that need not be computed again, such as 2GB; off: none are kept after the end.",
    )
    spec: Literal["auto", "off", "ngram", "lookahead", "draft"] = _setting(
        "auto",
        _choice(*SPEC_MODES),
        "Draft tokens and check several at once: auto: where it pays; off; or always: ngram: wherever the text repeats,"
        " lookahead: guessed by the model itself, draft: by the draft model.",
    )
    spec_lookup: Literal["own", "shared"] = _setting(
        "own",
        _choice("own", "shared"),
        "Where n-gram lookup looks: the request's own text, or shared: also what earlier requests said, whoever asked.",
    )
    draft_model: str | None = _setting(
        None,
        _text_or_none,
        "A small model with the same vocabulary that drafts tokens: a name, or the path of a GGUF file; none: no such.",
    )
    seed: int | None = _setting(
        None, _integer(0, 2**32 - 1, none_is="random"), "Seed of the sampler; random draws one each time."
    )
    temperature: float = _setting(0.8, _number(0, 100), "How freely tokens are drawn; 0 always takes the likeliest.")
    top_p: float = _setting(
        0.95, _number(0, 1), "Draw from the likeliest tokens that together have this probability; 1 is off."
    )
    top_k: int = _setting(40, _integer(0, 2**31 - 1), "Draw from this many likeliest tokens; 0 is off.")
    min_p: float = _setting(
        0.05, _number(0, 1), "Drop tokens less probable than this share of the likeliest one's; 0 is off."
    )
    max_tokens: int | None = _setting(
        None,
        _integer(1, 2**31 - 1, none_is="none"),
        "Tokens to generate at most; none: until the model ends its answer.",
    )
    context_policy: Literal["error", "shift", "sinks"] = _setting(
        "error",
        _choice("error", "shift", "sinks"),
        "When the context is full: error ends the answer; shift keeps the system prompt and forgets the oldest of the"
        " rest; sinks keeps the first tokens (StreamingLLM).",
    )
    n_sink: int = _setting(4, _integer(0, 2**31 - 1), "Tokens at the beginning that --context-policy sinks keeps.")
    system: str | None = _setting(None, _text, "The system prompt.")
    log_level: str = _setting("warning", _choice(*LOG_LEVELS), f"How much to log: {', '.join(LOG_LEVELS)}.")

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
