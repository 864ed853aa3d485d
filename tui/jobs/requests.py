"""What a job can be asked for: plain values, which travel as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

JobKind = Literal["quantize", "compare", "evaluate"]


@dataclass(frozen=True)
class QuantizeRequest:
    """Make a smaller file of a model."""

    source: str
    """A GGUF file, or a Hugging Face folder."""
    target: str
    type_name: str = "Q4_K_M"
    target_bytes: int | None = None
    """A size, instead of the type."""
    target_bpw: float | None = None
    """Bits per weight, instead of the type."""
    method: str = "gptq"
    is_kl_aware: bool = False
    texts: tuple[str, ...] = ()
    """Files to calibrate with; none: the mix that comes with the program."""
    n_chunks: int | None = None
    allow_requantize: bool = False
    may_replace: bool = False
    has_report: bool = True
    n_threads: int | None = None


@dataclass(frozen=True)
class CompareRequest:
    """Make several types of a model with one calibration, and measure them; the files are not kept."""

    source: str
    types: tuple[str, ...]
    method: str = "gptq"
    is_kl_aware: bool = False
    texts: tuple[str, ...] = ()
    n_chunks: int | None = None
    n_threads: int | None = None


@dataclass(frozen=True)
class EvaluateRequest:
    """Measure files of one model beside each other, the reference first."""

    reference: str
    files: tuple[str, ...]
    n_threads: int | None = None


JobRequest = QuantizeRequest | CompareRequest | EvaluateRequest
_KINDS: dict[JobKind, type[JobRequest]] = {
    "quantize": QuantizeRequest,
    "compare": CompareRequest,
    "evaluate": EvaluateRequest,
}


def kind_of(request: JobRequest) -> JobKind:
    """Return what a request is called."""
    return next(kind for kind, made in _KINDS.items() if isinstance(request, made))


def to_json(request: JobRequest) -> dict[str, Any]:
    """Return a request as JSON has it."""
    return {"kind": kind_of(request), **asdict(request)}


def from_json(values: Mapping[str, Any]) -> JobRequest:
    """Return the request that `to_json` made.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    kind = _KINDS[values["kind"]]
    made: Callable[..., JobRequest] = kind
    names = {field.name for field in fields(kind)}
    given: dict[str, Any] = {name: value for name, value in values.items() if name in names}
    return made(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def source_of(request: JobRequest) -> str:
    """Return the file that divergence is measured from: results of the same one can be compared."""
    return request.reference if isinstance(request, EvaluateRequest) else request.source
