"""What was chosen on the form: checked, and made into a request, with what it will take."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.setting_values import parse_size
from tui.jobs.requests import CompareRequest, EvaluateRequest, JobKind, JobRequest, QuantizeRequest
from tui.quantizing.file_types import NEEDS_CALIBRATION
from tui.quantizing.forecast import Forecast, foretell, foretell_measuring

if TYPE_CHECKING:
    from tui.quantizing.prospect import Prospect

_BPW = re.compile(r"(\d+(?:\.\d+)?)\s*(?:bpw|bits)?", re.IGNORECASE)
_TYPE_IN_NAME = re.compile(r"[-._](?:F32|F16|BF16|I?Q\d\w*)$", re.IGNORECASE)


@dataclass(frozen=True)
class Choices:
    """What stands on the form."""

    kind: JobKind
    source: Path | None
    """To quantize, or the reference."""
    other: Path | None = None
    """To be measured against the reference."""
    types: Sequence[str] = ()
    target: str = ""
    """A size, or bits per weight."""
    method: str = "gptq"
    is_kl_aware: bool = False
    texts: str = ""
    """Paths, with commas between them."""
    n_chunks: str = ""
    output: str = ""
    has_report: bool = True
    may_replace: bool = False
    allow_requantize: bool = False


@dataclass(frozen=True)
class Problem:
    """What is wrong, and in which field."""

    field: str
    text: str


@dataclass(frozen=True)
class Plan:
    """What can be started."""

    request: JobRequest
    title: str
    forecast: Forecast
    free_disk_bytes: int
    free_memory_bytes: int

    @property
    def warning(self) -> str:
        """What may go wrong, if it is likely."""
        if self.forecast.disk_bytes > self.free_disk_bytes:
            return "The disk may not have room."
        if self.forecast.memory_bytes > self.free_memory_bytes:
            return "There may be too little memory: close models that you do not need."
        return ""


class _Wrong(Exception):
    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(field, text)


def plan(choices: Choices, prospect: Prospect | None, other: Prospect | None, models_dir: Path) -> Plan | Problem:
    """Check what was chosen. Looks at the disk."""
    try:
        return _plan(choices, prospect, other, models_dir)
    except _Wrong as wrong:
        return wrong.problem


def default_name(source: Path, type_name: str) -> str:
    """Return what a file is called that is made of this one."""
    stem = source.name if source.is_dir() else source.stem
    return f"{_TYPE_IN_NAME.sub('', stem)}-{type_name}.gguf"


def output_path(text: str, models_dir: Path) -> Path:
    """Return where a file goes: a name alone goes to the own folder, where the store finds it."""
    path = Path(text.strip()).expanduser()
    return path if path.is_absolute() or len(path.parts) > 1 else models_dir / path


def _plan(choices: Choices, prospect: Prospect | None, other: Prospect | None, models_dir: Path) -> Plan:
    from localllm.hardware import available_ram_bytes

    if choices.source is None or prospect is None:
        raise _Wrong("source", "Choose a model.")
    request: JobRequest
    folder = choices.source.parent
    match choices.kind:
        case "quantize":
            request, forecast = _quantize(choices, prospect, models_dir)
            folder = Path(request.target).parent
            title = Path(request.target).stem
        case "compare":
            request, forecast = _compare(choices, prospect)
            title = f"{choices.source.stem}: {', '.join(choices.types)}"
        case _:
            request, forecast = _evaluate(choices, prospect, other)
            assert choices.other is not None
            title = f"{choices.other.stem} against {choices.source.stem}"
    return Plan(request, title, forecast, _free_bytes(folder), available_ram_bytes())


def _quantize(choices: Choices, prospect: Prospect, models_dir: Path) -> tuple[QuantizeRequest, Forecast]:
    assert choices.source is not None
    _check_types(choices)
    if prospect.is_quantized and not choices.allow_requantize:
        raise _Wrong("requantize", "It is quantized already: take a 16-bit file, or tick Requantize, which loses more.")
    target_bytes, target_bpw = _target(choices.target)
    n_chunks = _n_chunks(choices.n_chunks)
    target = _output(choices, models_dir)
    request = QuantizeRequest(
        str(choices.source),
        str(target),
        choices.types[0],
        target_bytes,
        target_bpw,
        choices.method,
        choices.is_kl_aware,
        _texts(choices.texts),
        n_chunks,
        choices.allow_requantize,
        choices.may_replace,
        choices.has_report,
    )
    aimed = target_bytes if target_bpw is None else int(target_bpw * prospect.n_params / 8)
    if aimed is not None and aimed < prospect.n_params * 2 / 8:
        raise _Wrong("target", f"So small a file cannot be made of {prospect.n_params / 1e6:,.0f} million weights.")
    forecast = foretell(
        prospect,
        choices.method,
        choices.types,
        is_kl_aware=choices.is_kl_aware,
        n_chunks=n_chunks,
        target_bytes=aimed,
        has_report=choices.has_report,
    )
    return request, forecast


def _compare(choices: Choices, prospect: Prospect) -> tuple[CompareRequest, Forecast]:
    _check_types(choices)
    if prospect.is_folder:
        raise _Wrong("source", "Comparing needs a GGUF file. Quantize the folder to BF16 first.")
    if prospect.is_quantized:
        raise _Wrong("source", "It is quantized already: comparing types needs a 16-bit file.")
    n_chunks = _n_chunks(choices.n_chunks)
    request = CompareRequest(
        str(choices.source),
        tuple(choices.types),
        choices.method,
        choices.is_kl_aware,
        _texts(choices.texts),
        n_chunks,
    )
    forecast = foretell(
        prospect,
        choices.method,
        choices.types,
        is_kl_aware=choices.is_kl_aware,
        n_chunks=n_chunks,
        is_compared=True,
    )
    return request, forecast


def _evaluate(choices: Choices, prospect: Prospect, other: Prospect | None) -> tuple[EvaluateRequest, Forecast]:
    if choices.other is None or other is None:
        raise _Wrong("other", "Choose the file to measure.")
    if prospect.is_folder or other.is_folder:
        raise _Wrong("source" if prospect.is_folder else "other", "Measuring needs GGUF files, not folders.")
    if choices.other == choices.source:
        raise _Wrong("other", "These are the same file.")
    request = EvaluateRequest(str(choices.source), (str(choices.other),))
    return request, foretell_measuring(prospect.n_params, prospect.n_bytes + other.n_bytes, 2)


def _check_types(choices: Choices) -> None:
    if not choices.types:
        raise _Wrong("types", "Choose a type: Space ticks one.")
    bad = next((name for name in choices.types if name in NEEDS_CALIBRATION and choices.method == "rtn"), None)
    if bad is not None:
        raise _Wrong("types", f"{bad} is garbage without a calibration: choose gptq, or Q2_K.")
    if choices.is_kl_aware and "gptq" not in choices.method:
        raise _Wrong("method", f"KL-aware is for gptq; {choices.method} has no error feedback.")


def _target(text: str) -> tuple[int | None, float | None]:
    """Return the bytes, or the bits per weight, that a text means."""
    text = text.strip()
    if not text:
        return None, None
    found = _BPW.fullmatch(text)
    if found is not None and float(found[1]) <= 16:
        if float(found[1]) < 1:
            raise _Wrong("target", "Bits per weight are 1 to 16.")
        return None, float(found[1])
    try:
        return parse_size(text), None
    except ValueError:
        raise _Wrong("target", "Give a size such as 1.2GB, or bits per weight such as 4.25.") from None


def _n_chunks(text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise _Wrong("chunks", "Chunks are a number of 1 or more.")
    return int(text)


def _texts(text: str) -> tuple[str, ...]:
    paths = [Path(part.strip()).expanduser() for part in text.split(",") if part.strip()]
    for path in paths:
        if not path.is_file():
            raise _Wrong("texts", f"There is no file {path}.")
    return tuple(map(str, paths))


def _output(choices: Choices, models_dir: Path) -> Path:
    if not choices.output.strip():
        raise _Wrong("output", "Give the new file a name.")
    path = output_path(choices.output, models_dir)
    if path.suffix != ".gguf":
        raise _Wrong("output", "The name must end in .gguf.")
    if path.parent != models_dir and not path.parent.is_dir():
        raise _Wrong("output", f"There is no folder {path.parent}.")
    if path == choices.source:
        raise _Wrong("output", "That is the source itself.")
    if path.exists() and not choices.may_replace:
        raise _Wrong("output", f"{path.name} is there already: give another name, or tick Replace.")
    return path


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
