"""`localllm eval`: perplexity, and divergence from another model or from an unquantized KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localllm.cli.options import machine_options
from localllm.cli.output_files import check_writable, show_report
from localllm.cli.remote_flags import allow_only
from localllm.cli.screen import notice
from localllm.cli.status import LOG_EVERY_S, StatusLine
from localllm.config import Settings, load_settings
from localllm.errors import RequestError
from localllm.hub.refs import remote_ref
from localllm.store import resolve

if TYPE_CHECKING:
    from localllm.cli.eval_report import Report, Row
    from localllm.evaluate import Comparison
    from localllm.gguf import ModelShape
    from localllm.hardware.types import LoadPlan

REFERENCE_KV = ("f16", "f16")


@dataclass(frozen=True)
class Planned:
    """A model file that can be evaluated, and how it will be loaded."""

    path: Path
    shape: ModelShape
    plan: LoadPlan


@dataclass(frozen=True)
class Contestant:
    """One row of the table: a model and how its context is made."""

    planned: Planned
    kv_types: tuple[str, str] = REFERENCE_KV
    is_control: bool = False
    """The reference again, without flash attention: what it differs by is rounding, and no KV type can be below."""

    @property
    def flash_attention(self) -> bool | None:
        return False if self.is_control else None


@click.command("eval", short_help="Measure perplexity, and divergence from another model.")
@click.argument("model", required=False)
@click.option(
    "--against",
    "--reference",
    "against",
    metavar="REF",
    help="Measure the divergence from this model, such as the unquantized one.",
)
@click.option(
    "--kv-type",
    "kv_types",
    metavar="TYPE",
    multiple=True,
    help="Measure the divergence that storing keys and values so causes, one type or K,V; may be repeated.",
)
@click.option("--kv-type-k", metavar="TYPE", help="The type of the keys, whatever --kv-type says.")
@click.option("--kv-type-v", metavar="TYPE", help="The type of the values, whatever --kv-type says.")
@click.option("--no-control", is_flag=True, help="With --kv-type: leave out the row that shows what rounding does.")
@click.option("--text", "text_file", metavar="FILE", type=click.Path(path_type=Path), help="The text, in UTF-8.")
@click.option("--n-ctx", metavar="N", default=512, show_default=True, type=int, help="Tokens of a chunk.")
@click.option("--chunks", "n_chunks", metavar="N", type=int, help="How many chunks of the text at most.")
@click.option("--json", "json_file", metavar="FILE", type=click.Path(), help="Write everything as JSON; - is stdout.")
@machine_options
def command(
    model: str | None,
    against: str | None,
    kv_types: tuple[str, ...],
    kv_type_k: str | None,
    kv_type_v: str | None,
    no_control: bool,
    text_file: Path | None,
    n_ctx: int,
    n_chunks: int | None,
    json_file: str | None,
    **flags: str | None,
) -> None:
    """Measure how well a model predicts a text, and how far it is from a reference.

    The reference is the model of --against, else the model itself with an f16 KV cache, and what is compared with it
    first is the same without flash attention: a divergence that is no larger is rounding. Divergence is the KL
    divergence KL(reference || other) of the next token's distribution, in nats. Without --text, the text is a part of
    "Alice in Wonderland", which serves for comparing settings; give a text of your own to compare models.

    \b
    localllm eval model.gguf --text wiki.txt
    localllm eval model-Q4_K_M.gguf --against model-F16.gguf
    localllm eval smollm2 --kv-type q8_0 --kv-type q4_0 --kv-type q8_0,f16
    localllm eval @lab --chunks 4
    """
    settings = load_settings({**flags, "model": model})
    if remote := remote_ref(settings.model):
        allow_only(click.get_current_context(), str(remote), {"model", "text_file", "n_ctx", "n_chunks", "json_file"})
        check_writable(json_file, "--json")
        from localllm.cli.eval_remote import eval_remote

        eval_remote(remote, text_file, n_ctx, n_chunks, json_file)
        return
    types = requested_kv_types(kv_types, kv_type_k, kv_type_v, has_reference=against is not None)
    check_writable(json_file, "--json")
    from localllm.evaluate import default_text, read_text
    from localllm.evaluate.text import DEFAULT_NAME

    text = default_text() if text_file is None else read_text(text_file)
    has_control = bool(types) and against is None and not no_control
    contestants = _plan(settings, against, types, n_ctx, has_control=has_control)
    found = _measure(contestants, text, n_ctx, n_chunks)
    show_report(found.named(DEFAULT_NAME if text_file is None else str(text_file), text), json_file)


def requested_kv_types(
    both: Sequence[str], of_k: str | None, of_v: str | None, *, has_reference: bool
) -> list[tuple[str, str]]:
    """Return the types of K and V that are compared with the reference; none if there is no comparison.

    Raises:
        RequestError: more than two types are named for one comparison.
    """
    if not both and (of_k or of_v or has_reference):
        both = [",".join(REFERENCE_KV)]
    pairs = []
    for text in both:
        parts = text.split(",")
        if len(parts) > 2:
            raise RequestError(
                f"--kv-type is {text!r}; it must be one type for both, or K,V.", hint="Such as q8_0,f16."
            )
        pairs.append((of_k or parts[0], of_v or parts[-1]))
    return list(dict.fromkeys(pairs))


def _plan(
    settings: Settings, against: str | None, types: Sequence[tuple[str, str]], n_ctx: int, *, has_control: bool
) -> list[Contestant]:
    """Check headers, KV types and memory; return what is evaluated, the reference first.

    Raises:
        ModelError, RequestError, NotEnoughMemory: it cannot be evaluated.
    """
    from localllm.hardware.options import check_kv_types
    from localllm.runtime.loading import plan_reader

    paths = [resolve(settings.model), *([] if against is None else [resolve(against)])]
    planned = [
        Planned(path, *plan_reader(path, n_ctx, gpu_layers=settings.gpu_layers, n_threads=settings.threads))
        for path in dict.fromkeys(paths)
    ]
    for pair in types:
        check_kv_types(*pair, planned[0].shape)
    contestants = [
        Contestant(planned[-1]),
        *([Contestant(planned[0], is_control=True)] if has_control else []),
        *(Contestant(planned[0], pair) for pair in types),
    ]
    _check_memory(planned, contestants, n_ctx)
    return contestants


def _check_memory(planned: Sequence[Planned], contestants: Sequence[Contestant], n_ctx: int) -> None:
    from localllm.evaluate.memory import check_memory, lane_bytes
    from localllm.hardware import available_ram_bytes

    if any(one.plan.n_gpu_layers for one in planned):
        return
    weights = sum(one.shape.weights_bytes for one in planned)
    contexts = sum(
        lane_bytes(one.planned.shape, one.kv_types, n_ctx, flash_attention=one.flash_attention) for one in contestants
    )
    check_memory(weights + contexts, len(contestants), available_ram_bytes())


def _measure(contestants: Sequence[Contestant], text: str, n_ctx: int, n_chunks: int | None) -> Report:
    from localllm.cli.eval_report import Report
    from localllm.evaluate import Chunks, Subject, compare
    from localllm.runtime.loading import load_model

    status = StatusLine(LOG_EVERY_S)
    plan = contestants[0].planned.plan
    with ExitStack() as stack:
        stack.callback(status.clear)
        models = {
            one: stack.enter_context(load_model(one.path, one.plan.n_gpu_layers, status.loading))
            for one in dict.fromkeys(contestant.planned for contestant in contestants)
        }
        subjects = [
            Subject(models[one.planned], *one.kv_types, plan.n_threads, one.flash_attention) for one in contestants
        ]
        chunks = Chunks.of_text(text, subjects[0].model.vocab, n_ctx, n_chunks)
        status.show(f"chunk 1 of {chunks.n_chunks}")
        found = compare(
            subjects[0],
            subjects[1:],
            chunks,
            lambda n_done, n_total: status.show(f"chunk {min(n_done + 1, n_total)} of {n_total}"),
        )
    if n_chunks is not None and chunks.n_chunks < n_chunks:
        notice(f"The text has {chunks.n_chunks} chunks of {n_ctx} tokens, not {n_chunks}.")
    return Report(_rows(contestants, found, n_ctx), n_ctx, chunks.n_chunks, plan.n_threads, plan.n_gpu_layers)


def _rows(contestants: Sequence[Contestant], found: Comparison, n_ctx: int) -> tuple[Row, ...]:
    from localllm.cli.eval_report import Row
    from localllm.evaluate.memory import kv_bytes
    from localllm.store.names import shown_name

    return tuple(
        Row(
            shown_name(one.planned.path),
            *one.kv_types,
            one.is_control,
            kv_bytes(one.planned.shape, one.kv_types, n_ctx),
            n_ctx,
            result,
        )
        for one, result in zip(contestants, (found.reference, *found.others), strict=True)
    )
