"""What is said of a model in detail: pages of labels and values, made from headers, the catalog and plans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from tui.model_files import ModelFile
from tui.model_plans import Verdict, other_way
from tui.model_rows import ModelRow
from tui.model_texts import NOTHING, clean, context_text, count_text, size_text, speed_text

if TYPE_CHECKING:
    from localllm.gguf import GGUFHeader, ModelShape, ModelSummary
    from localllm.hub.catalog_entry import CatalogEntry
    from localllm.runtime.planning import Outlook, PlanReport

TEMPLATE_KEY = "tokenizer.chat_template"
_LICENSE_KEYS = ("general.license", "general.license.name")
_MAX_TEMPLATE = 20_000
"""Characters of a template that are shown."""
_MAX_METADATA = 200
"""Metadata pairs that are shown."""


@dataclass(frozen=True)
class Section:
    """Some of what is said, under a title."""

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    """Labels and values."""
    table: tuple[tuple[str, ...], ...] = ()
    """Lines of columns, the first one the head."""
    text: str = ""
    """As it is, line by line."""
    is_folded: bool = False


def first_section(row: ModelRow, verdict: Verdict | None = None) -> Section:
    """Return what is known of a model without reading anything."""
    return Section("", tuple(_first_rows(row, verdict)))


def _first_rows(row: ModelRow, verdict: Verdict | None) -> Iterator[tuple[str, str]]:
    if row.entry is not None:
        yield "Title", clean(row.entry.title)
    yield "Kind", row.kind
    if row.note:
        yield "Note" if row.is_here else "About", clean(row.note)
    yield "Weights", row.weights
    yield "Size", f"{size_text(row.n_bytes, is_rough=row.is_rough)} {row.quantization}".rstrip()
    yield "Context", f"{row.n_ctx:,} tokens" if row.n_ctx else NOTHING
    if verdict is not None:
        yield "Fits here", clean(verdict.text)
    if row.found is not None:
        yield "Quantizations", clean(", ".join(row.found.quantizations)) or NOTHING
        yield "Likes", f"{row.found.n_likes:,}"
        if row.found.updated is not None:
            yield "Updated", f"{row.found.updated:%Y-%m-%d}"
    if row.entry is not None and row.entry.license:
        yield "Licence", clean(row.entry.license)
    if row.is_gated:
        yield "Gated", "accept its terms on its page on the hub, then run hf auth login"
    if row.repo:
        yield "Repository", clean(row.repo)
    if row.stored is not None:
        yield "Where", str(row.stored.place)
        yield "Folder", clean(str(row.stored.path.parent), 400)
        yield "File", clean(row.stored.path.name)
        if len(row.stored.names) > 1:
            yield "Also called", ", ".join(clean(name) for name in row.stored.names if name != row.ref)


def file_sections(row: ModelRow) -> list[Section]:
    """Return what the header of a model on this disk says. Slow: call it on a thread.

    Raises:
        ModelError: the header cannot be read.
    """
    from localllm.gguf import read_header, summarize

    assert row.path is not None
    header = read_header(row.path)
    summary = summarize(header)
    found = [Section("Architecture", tuple(_shape_rows(summary)))]
    found.append(Section("Tensors by type", table=tuple(_type_table(summary))))
    template = header.metadata.get(TEMPLATE_KEY)
    if isinstance(template, str):
        found.append(Section("Chat template", text=_harmless(template), is_folded=True))
    found.append(Section("Metadata", tuple(_metadata_rows(header, summary)), is_folded=True))
    return found


def entry_sections(entry: CatalogEntry, files: Sequence[ModelFile]) -> list[Section]:
    """Return what the catalog says of a model, and of the files that it can be fetched as."""
    found = [Section("Architecture", tuple(_entry_rows(entry)))]
    named = [
        (field.name.replace("_", " "), f"{value:g}")
        for field in fields(entry.sampling)
        if (value := getattr(entry.sampling, field.name)) is not None
    ]
    if named:
        found.append(Section("Recommended by its maker", tuple(named)))
    if files:
        lines = [(file.quantization, size_text(file.n_bytes), file.verdict.short) for file in files]
        found.append(Section("Files: p fetches one", table=(("quantization", "size", "fits here"), *lines)))
    return found


def plan_section(report: PlanReport) -> Section:
    """Return how a model would be loaded here, and what else fits."""
    return Section(
        "On this machine", tuple(_plan_rows(report)), table=tuple(_other_table([*report.others, *report.files]))
    )


def _shape_rows(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    yield "Name", clean(summary.name) if summary.name else NOTHING
    yield "Architecture", clean(summary.architecture)
    yield "Parameters", f"{count_text(summary.n_params)} in {summary.n_tensors} tensors"
    yield "Quantization", f"{summary.file_type or NOTHING}, {summary.bpw:.2f} bits per weight"
    if summary.shape is not None:
        yield from _numbers(summary.shape)
    if summary.shape_problem is not None:
        yield "Cannot run", clean(summary.shape_problem, 400)
    for line in summary.metadata:
        if line.key in _LICENSE_KEYS:
            yield "Licence", clean(str(line.value))


def _numbers(shape: ModelShape) -> Iterator[tuple[str, str]]:
    yield "Layers", f"{shape.n_layer}, {shape.n_embd:,} wide"
    if any(shape.n_head):
        yield "Heads", f"{max(shape.n_head)}, {max(shape.n_head_kv)} for keys and values, {shape.head_dim_k} wide"
    if shape.n_expert:
        yield "Experts", f"{shape.n_expert}, {shape.n_expert_used} used per token"
    window = f", sliding window of {shape.n_swa:,}" if shape.n_swa else ""
    yield "Context", f"{shape.n_ctx_train:,} tokens{window}"
    yield "Vocabulary", f"{shape.n_vocab:,} tokens"
    if any(shape.kv_width_k):
        yield "KV cache", f"{size_text(shape.kv_bytes_per_token())} per token at f16"


def _type_table(summary: ModelSummary) -> Iterator[tuple[str, ...]]:
    yield "type", "tensors", "weights", "size"
    for line in summary.types:
        yield line.type, str(line.n_tensors), count_text(line.n_params), size_text(line.n_bytes)


def _metadata_rows(header: GGUFHeader, summary: ModelSummary) -> Iterator[tuple[str, str]]:
    for line in summary.metadata[:_MAX_METADATA]:
        if line.key == TEMPLATE_KEY:
            continue
        value = line.value
        if isinstance(value, list):
            more = ", …" if line.length is not None and line.length > len(value) else ""
            yield clean(line.key, 60), f"[{', '.join(clean(str(one), 24) for one in value)}{more}] ({line.length:,})"
        else:
            yield clean(line.key, 60), clean(str(value))


def _entry_rows(entry: CatalogEntry) -> Iterator[tuple[str, str]]:
    active = f", {count_text(entry.n_active_params)} for each token" if entry.n_active_params else ""
    yield "Parameters", f"{count_text(entry.n_params)}{active}"
    if entry.n_layers:
        yield "Layers", f"{entry.n_layers}" + (f", {entry.n_embd:,} wide" if entry.n_embd else "")
    if entry.n_heads:
        keys = f", {entry.n_kv_heads} for keys and values" if entry.n_kv_heads else ""
        yield "Heads", f"{entry.n_heads}{keys}" + (f", {entry.head_dim} wide" if entry.head_dim else "")
    yield "Context", f"{entry.n_ctx:,} tokens" if entry.n_ctx else NOTHING


def _plan_rows(report: PlanReport) -> Iterator[tuple[str, str]]:
    if report.chosen is None:
        assert report.refusal is not None
        yield "Does not fit", report.refusal.message
        return
    plan, speed = report.chosen.plan, report.chosen.speed
    same = plan.kv_type_k == plan.kv_type_v
    yield "Context", f"{plan.n_ctx:,} tokens, KV {plan.kv_type_k if same else f'{plan.kv_type_k}, {plan.kv_type_v}'}"
    estimate = plan.estimate
    weights, kv, compute = map(size_text, (estimate.weights_bytes, estimate.kv_bytes, estimate.compute_bytes))
    yield "Memory", f"{size_text(estimate.total_bytes)}: weights {weights}, KV {kv}, computing {compute}"
    yield "In RAM", f"{size_text(plan.ram_bytes)} of {size_text(report.ram_free_bytes)} free"
    for device, n_bytes in zip(plan.devices, plan.device_bytes, strict=True):
        yield f"On {clean(device.name, 20)}", f"{size_text(n_bytes)} of {size_text(device.memory_free_bytes)} free"
    if speed is None:
        yield "Speed", "not measured: m does"
    else:
        yield "Speed", f"{speed.decode_tok_s:.3g} tokens/s, {speed.decode_full_tok_s:.3g} with the context full"
        yield "Prompts", f"{speed.prefill_tok_s:.3g} tokens/s"
    if report.is_disturbed:
        yield "", "Other programs kept the processor busy: this is what they left."
    for note in plan.notes:
        yield "Note", clean(note, 400)


def _other_table(others: Sequence[Outlook]) -> Iterator[tuple[str, ...]]:
    if others:
        yield "also fits", "context", "memory", "tok/s"
    for other in others:
        speed = speed_text(None if other.speed is None else other.speed.decode_tok_s)
        plan = other.plan
        yield other_way(other.flags), context_text(plan.n_ctx), size_text(plan.estimate.total_bytes), speed


def _harmless(text: str) -> str:
    """Return a text of several lines without control characters."""
    lines = text[:_MAX_TEMPLATE].expandtabs(4).split("\n")
    return "\n".join("".join(char for char in line if char.isprintable()) for line in lines)
