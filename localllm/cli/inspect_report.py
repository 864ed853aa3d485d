"""What `localllm inspect` found, as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from localllm import __version__
from localllm.cli.numbers import NOTHING, estimate, json_text
from localllm.cli.tables import table

if TYPE_CHECKING:
    from localllm.workshop import Inspection

N_CHANNELS_SHOWN = 6
"""Of each kind of input; JSON has all."""


@dataclass(frozen=True)
class InspectReport:
    """An inspection, to be shown."""

    found: Inspection

    def json(self) -> str:
        """Return one JSON object."""
        from localllm.llama import build_info

        return json_text({"version": __version__, "llama_cpp": build_info(), **asdict(self.found)})

    def lines(self) -> Iterator[str]:
        """Yield the tables."""
        yield from _section("Inputs", _INPUT_HEAD, self._inputs())
        channels = list(self._channels())
        yield ""
        if channels:
            yield from _section("Outlier channels", _CHANNEL_HEAD, channels)
        else:
            yield click.style("No outlier channels", bold=True)
        yield ""
        yield from _section("Relative error of products in 8 bits", _ROUNDING_HEAD, self._rounding())
        if (q8 := self.found.q8_divergence) is not None:
            yield ""
            yield click.style("Divergence of a Q8_0 file", bold=True)
            facts = [("mean KLD", estimate(q8.kl, ".6f")), ("99 % KLD", f"{q8.p99:.6f}")]
            yield from table([*facts, ("same top token", estimate(q8.same_top, ".2%"))])

    def remarks(self) -> Iterator[str]:
        """Yield what one must know to read the tables."""
        found, rule = self.found, self.found.rule
        yield f"{found.n_tokens} tokens read, in chunks of {found.n_ctx}, of {', '.join(found.text_names)}."
        yield (
            f"outlier: a magnitude of {rule.magnitude:g} in at least {rule.layer_share:.0%} of the layers and "
            f"{rule.position_share:.0%} of the positions (LLM.int8()); kurtosis is 3 of normally distributed values."
        )
        yield (
            "weights, inputs, both: rounded to Q8_0's blocks of 32; token scale: inputs rounded with one scale a token."
        )
        hidden = [one for one in found.inputs if len(one.outliers) > N_CHANNELS_SHOWN]
        if hidden:
            yield f"The {N_CHANNELS_SHOWN} largest channels of each input are shown; --json has all."

    def _inputs(self) -> Iterator[tuple[str, ...]]:
        for one in self.found.inputs:
            yield (
                one.kind,
                str(one.n_layers),
                str(one.n_cols),
                f"{one.rms:.3g}",
                f"{one.max:.4g}",
                f"{one.max / one.rms:.0f}" if one.rms else NOTHING,
                f"{one.kurtosis:.0f}",
                str(len(one.outliers)),
            )

    def _channels(self) -> Iterator[tuple[str, ...]]:
        for one in self.found.inputs:
            for channel in one.outliers[:N_CHANNELS_SHOWN]:
                yield (
                    one.kind,
                    str(channel.channel),
                    f"{channel.rms:.3g}",
                    f"{channel.max:.4g}",
                    f"{channel.n_layers} of {one.n_layers}",
                    f"{channel.position_share:.0%}",
                )

    def _rounding(self) -> Iterator[tuple[str, ...]]:
        for one in self.found.rounding:
            errors = (one.weights, one.inputs, one.both, one.token_scale)
            yield (one.kind, str(one.n_layers), *(f"{error:.2%}" for error in errors))


_INPUT_HEAD = ("input of", "layers", "channels", "rms", "max", "max/rms", "kurtosis", "outliers")
_CHANNEL_HEAD = ("input of", "channel", "rms", "max", "layers", "positions")
_ROUNDING_HEAD = ("weight", "layers", "weights", "inputs", "both", "token scale")


def _section(title: str, head: Sequence[str], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield click.style(title, bold=True)
    yield from ("  " + line for line in table([tuple(head), *rows], right=range(1, len(head))))
