"""Looking into a model while it reads: outlier activations, and what 8 bits lose."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from localllm.calibrate.channels import ChannelSums, InputProfile, OutlierRule, profiles
from localllm.calibrate.inputs import Seen
from localllm.calibrate.reader import Reader
from localllm.calibrate.samples import RowSamples
from localllm.errors import RequestError
from localllm.evaluate import Divergence
from localllm.gguf import read_header
from localllm.workshop.calibration import CalibrationRequest, OpenText, open_text
from localllm.workshop.measuring import MeasureRequest, check_files, measure_files
from localllm.workshop.quantization import QuantizeRequest, QuantizeWatcher, plan_quantization, quantize_file
from localllm.workshop.rounding import RoundingError, rounding_errors

N_CHUNKS = 8
"""Of the text, if nobody says. The mix that comes with the program is mixed evenly, so they are some of everything."""
Q8_0 = "Q8_0"


@dataclass(frozen=True)
class InspectRequest:
    """What to look for, and on which text."""

    text: CalibrationRequest = field(default_factory=lambda: CalibrationRequest(n_chunks=N_CHUNKS))
    rule: OutlierRule = field(default_factory=OutlierRule)
    q8_measure: MeasureRequest | None = None
    """Make a Q8_0 file for the moment, and measure how far it is from the model on this text; None does not."""


@dataclass(frozen=True)
class Inspection:
    """What was found, and on what."""

    rule: OutlierRule
    text_names: tuple[str, ...]
    n_tokens: int
    n_ctx: int
    inputs: tuple[InputProfile, ...]
    rounding: tuple[RoundingError, ...]
    q8_divergence: Divergence | None
    """Of the Q8_0 file from the model."""


def inspect_file(path: Path, request: InspectRequest, watcher: QuantizeWatcher) -> Inspection:
    """Read a text with a model and look at what its weights are multiplied by.

    Raises:
        RequestError: the rule's magnitude is not above 0.
        LocalLLMError: as `open_text`, `quantize_file` and `measure_files`.
    """
    if not request.rule.magnitude > 0:
        raise RequestError(f"A magnitude of {request.rule.magnitude:g}; it must be above 0.", hint="Such as 6.")
    q8 = QuantizeRequest(Q8_0, "rtn", n_threads=request.text.n_threads)
    if request.q8_measure is not None:
        plan_quantization(path, q8)
        check_files([path], request.q8_measure)
    with open_text(path, request.text, watcher) as text:
        sums, samples = _listen(text, request.rule, watcher)
    inputs = [one.source for one in sums]
    rounding = rounding_errors(
        read_header(path), inputs, samples, lambda done, total: watcher.measuring("rounding: input", done, total)
    )
    divergence = None if request.q8_measure is None else _q8_divergence(path, q8, request.q8_measure, watcher)
    return Inspection(
        request.rule,
        text.chunks.names,
        text.chunks.n_tokens,
        text.chunks.n_ctx,
        profiles(sums, request.rule),
        rounding,
        divergence,
    )


def _listen(text: OpenText, rule: OutlierRule, watcher: QuantizeWatcher) -> tuple[list[ChannelSums], RowSamples]:
    """Read the text; return the sums of every input, in the graph's order, and some rows of each."""
    chunks = text.chunks
    samples = RowSamples(chunks.n_chunks)
    with Reader(
        text.model, chunks.n_ctx, text.plan.n_threads, with_output=True, stops_early=text.cpu_computes_all
    ) as reader:
        inputs = reader.survey(chunks.tokens[0].tolist())
        sums = {source.name: ChannelSums(source, rule.magnitude) for source in inputs}

        def hear(seen: Seen) -> None:
            sums[seen.source.name].add(seen)
            samples.add(seen)

        reader.watch(inputs, hear)
        for n_done, tokens in enumerate(chunks.tokens, 1):
            reader.read(tokens.tolist())
            watcher.measuring("reading the text: chunk", n_done, chunks.n_chunks)
    return list(sums.values()), samples


def _q8_divergence(
    path: Path, q8: QuantizeRequest, measure: MeasureRequest, watcher: QuantizeWatcher
) -> Divergence | None:
    with TemporaryDirectory(prefix="localllm-inspect-") as folder:
        made = quantize_file(path, Path(folder) / f"{path.stem}-{Q8_0}.gguf", q8, watcher)
        _, other = measure_files([path, made.path], measure, watcher).files
    return other.evaluation.divergence
