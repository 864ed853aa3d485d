"""`localllm show`: what a model file says about itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from localllm.cli.tables import count, size, table
from localllm.store import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from localllm.gguf import MetadataLine, ModelShape, ModelSummary


@click.command("show")
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--tensors", "with_tensors", is_flag=True, help="List every tensor.")
def command(model: str, as_json: bool, with_tensors: bool) -> None:
    """Show what a model's file holds: size, shape, tensor types and metadata. MODEL is a name or a path.

    Only the header is read, so this is quick for a model of any size.
    """
    from localllm.gguf import read_header, summarize

    summary = summarize(read_header(resolve(model)))
    if as_json:
        click.echo(_json(summary, with_tensors))
    else:
        click.echo("\n".join(_page(summary, with_tensors)))


def _json(summary: ModelSummary, with_tensors: bool) -> str:
    import json
    from dataclasses import asdict

    fields = asdict(summary)
    if not with_tensors:
        del fields["tensors"]
    return json.dumps(fields, allow_nan=False)


def _page(summary: ModelSummary, with_tensors: bool) -> Iterator[str]:
    yield from table(list(_facts(summary)))
    yield from _section(
        "Tensor types",
        [(line.type, f"{line.n_tensors}", count(line.n_params), size(line.n_bytes)) for line in summary.types],
        right=(1, 2, 3),
        head=("type", "tensors", "weights", "size"),
    )
    yield from _section("Metadata", [(_clean(line.key, 60), line.type, _value(line)) for line in summary.metadata])
    if with_tensors:
        yield from _section(
            "Tensors",
            [
                (_clean(line.name), line.type, " × ".join(map(str, line.shape)), size(line.n_bytes))
                for line in summary.tensors
            ],
            right=(3,),
            head=("name", "type", "shape", "size"),
        )


def _facts(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    yield "File", _clean(summary.path, 200)
    parts = f" in {summary.n_parts} files" if summary.n_parts > 1 else ""
    yield "Size", f"{size(summary.n_bytes)}{parts}"
    if summary.name:
        yield "Name", _clean(summary.name)
    yield "Architecture", _clean(summary.architecture)
    yield "Weights", f"{count(summary.n_params)} in {summary.n_tensors} tensors"
    file_type = f"{summary.file_type}, " if summary.file_type else ""
    yield "Quantization", f"{file_type}{summary.bpw:.2f} bits per weight"
    if summary.shape is not None:
        yield from _shape_facts(summary.shape)
    if summary.shape_problem is not None:
        yield "Cannot run", summary.shape_problem


def _shape_facts(shape: ModelShape) -> Iterator[tuple[str, str]]:
    yield "Layers", f"{shape.n_layer}, {shape.n_embd} wide"
    if any(shape.n_head):
        heads = f"{max(shape.n_head)} ({max(shape.n_head_kv)} for keys and values)"
        yield "Heads", f"{heads}, {shape.head_dim_k} wide"
    if shape.n_expert:
        yield "Experts", f"{shape.n_expert}, {shape.n_expert_used} used per token"
    window = f", sliding window of {shape.n_swa:,}" if shape.n_swa else ""
    yield "Context", f"{shape.n_ctx_train:,} tokens{window}"
    yield "Vocabulary", f"{shape.n_vocab:,} tokens"
    if shape.is_recurrent or shape.is_hybrid:
        yield "Memory", "recurrent" if shape.is_recurrent else "hybrid: attention and recurrent layers"
    if any(shape.kv_width_k):
        yield "KV cache", f"{size(shape.kv_bytes_per_token())} per token at f16"


def _section(
    title: str, rows: list[tuple[str, ...]], right: Sequence[int] = (), head: tuple[str, ...] = ()
) -> Iterator[str]:
    yield ""
    yield click.style(title, bold=True)
    yield from ("  " + line for line in table(([head] if head else []) + rows, right))


def _value(line: MetadataLine) -> str:
    if isinstance(line.value, list):
        more = ", …" if line.length is not None and line.length > len(line.value) else ""
        shown = ", ".join(_clean(repr(element), 24) for element in line.value)
        return f"[{shown}{more}] ({line.length:,})"
    return _clean(f"{line.value:g}" if isinstance(line.value, float) else str(line.value))


def _clean(text: str, limit: int = 80) -> str:
    from localllm.gguf import printable

    return printable(text, limit)
