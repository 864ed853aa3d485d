"""A plan, as `localllm plan` prints it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from localllm.cli.tables import size, table
from localllm.gguf import printable

if TYPE_CHECKING:
    from localllm.hardware.types import LoadPlan
    from localllm.runtime.planning import Outlook, PlanReport


_HEAD = ("context", "KV", "GPU layers", "memory", "tokens/s")


def report_lines(name: str, report: PlanReport) -> Iterator[str]:
    """Yield the lines of a plan for people."""
    shape, chosen = report.shape, report.chosen
    yield click.style(printable(name, 200), bold=True) + f"  {printable(shape.architecture)}, {shape.n_layer} layers"
    if chosen is not None:
        yield ""
        yield from table(list(_settings(chosen.plan, shape.n_layer)))
        yield ""
        yield from table(list(_memory(chosen.plan, report)), right=(1,))
        yield from _speed(chosen, is_disturbed=report.is_disturbed)
        yield from (f"note: {note}" for note in chosen.plan.notes)
    if report.others:
        yield ""
        yield click.style("Also fits" if chosen is not None else "What would fit", bold=True)
        yield from table([("", *_HEAD), *map(_row, report.others)], (1, 4, 5))
    if report.files:
        yield ""
        yield click.style("Other files of this model that fit, about", bold=True)
        yield from table([("", *_HEAD), *map(_row, report.files)], (1, 4, 5))


def report_json(name: str, report: PlanReport) -> str:
    """Return a plan for programs."""
    fields = {
        "model": name,
        "fits": report.chosen is not None,
        "refusal": None if report.refusal is None else report.refusal.message,
        "ram_free_bytes": report.ram_free_bytes,
        "devices": [asdict(device) for device in report.devices],
        "plan": None if report.chosen is None else _outlook(report.chosen),
        "is_disturbed": report.is_disturbed,
        "alternatives": [{"flags": other.flags, **_outlook(other)} for other in report.others],
        "files": [{"name": other.flags, **_outlook(other)} for other in report.files],
    }
    return json.dumps(fields, allow_nan=False)


def _outlook(outlook: Outlook) -> dict[str, Any]:
    fields = asdict(outlook.plan)
    for name in ("path", "spec", "shares_texts", "devices"):
        del fields[name]
    estimate = outlook.plan.estimate
    fields["estimate"] |= {"total_bytes": estimate.total_bytes, "allocated_bytes": estimate.allocated_bytes}
    fields["speed"] = None if outlook.speed is None else asdict(outlook.speed)
    return fields


def _settings(plan: LoadPlan, n_layer: int) -> Iterator[tuple[str, str]]:
    each = f", shared by {plan.n_slots} answers at once" if plan.n_slots > 1 else ""
    yield "Context", f"{plan.n_ctx:,} tokens{each}"
    same = plan.kv_type_k == plan.kv_type_v
    yield "KV cache", plan.kv_type_k if same else f"{plan.kv_type_k} (K), {plan.kv_type_v} (V)"
    if plan.n_gpu_layers:
        parts = zip(plan.devices, plan.device_layers, strict=True)
        where = ", ".join(f"{n} on {device.name}" for device, n in parts if n)
        yield "Layers", f"{where}, {n_layer + 1 - plan.n_gpu_layers} on the CPU"
    yield "Threads", f"{plan.n_threads}"
    yield "Batch", f"{plan.n_batch:,} tokens, {plan.n_ubatch:,} at once"


def _memory(plan: LoadPlan, report: PlanReport) -> Iterator[tuple[str, str, str]]:
    estimate = plan.estimate
    yield "Weights", size(estimate.weights_bytes), ""
    yield "KV cache", size(estimate.kv_bytes), ""
    yield "Computing", size(estimate.compute_bytes), ""
    if estimate.repacked_bytes:
        more = "weights in a faster order; their originals may be dropped from memory"
        yield "Repacked", size(estimate.repacked_bytes), more
    yield "In RAM", size(plan.ram_bytes), f"of {size(report.ram_free_bytes)} free"
    for device, n_bytes in zip(plan.devices, plan.device_bytes, strict=True):
        yield f"On {device.name}", size(n_bytes), f"of {size(device.memory_free_bytes)} free"


def _speed(outlook: Outlook, *, is_disturbed: bool) -> Iterator[str]:
    speed = outlook.speed
    if speed is None:
        return
    yield ""
    yield (
        f"About {speed.decode_tok_s:.3g} tokens/s, {speed.decode_full_tok_s:.3g} at the end of the context; "
        f"prompts are read at {speed.prefill_tok_s:.3g}."
    )
    if is_disturbed:
        yield "Other programs kept the processor busy: this is what they left. Ask again when they are done."


def _row(outlook: Outlook) -> tuple[str, ...]:
    plan, speed = outlook.plan, outlook.speed
    kinds = plan.kv_type_k if plan.kv_type_k == plan.kv_type_v else f"{plan.kv_type_k},{plan.kv_type_v}"
    rate = "" if speed is None else f"{speed.decode_tok_s:.3g}"
    return (outlook.flags, f"{plan.n_ctx:,}", kinds, str(plan.n_gpu_layers), size(plan.estimate.total_bytes), rate)
