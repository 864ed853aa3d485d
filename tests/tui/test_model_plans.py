"""Verdicts: what the planner thinks of a model, in a few words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localllm.config import load_settings
from localllm.errors import NotEnoughMemory
from localllm.hub.catalog import shipped_catalog
from localllm.runtime.planning import plan_report
from tests.tiny_model import write_tiny_model
from tui.model_files import ModelFile, files_of, recommended
from tui.model_plans import Plans, Verdict, other_way
from tui.model_rows import Filter, ModelRow, Shelf, read_shelf


@pytest.fixture
def row(own: Path) -> ModelRow:
    own.mkdir(parents=True)
    write_tiny_model(own / "mine.gguf")
    return next(row for row in read_shelf().here if row.ref == "mine")


def test_a_verdict_is_kept_until_it_ages(row: ModelRow) -> None:
    calls: list[Path] = []

    def report(path: Path, *args: Any, **options: Any) -> Any:
        calls.append(path)
        return plan_report(path, *args, **options)

    plans = Plans(load_settings(), report)
    plans.judge([row, row])
    assert plans.known(row) == Verdict(True, "fits", "fits", plans.known(row).n_ctx)  # type: ignore[union-attr]
    assert len(calls) == 1
    plans.age()
    assert plans.known(row) is not None and not plans.is_fresh(row)
    plans.judge([row])
    assert len(calls) == 2


@pytest.mark.parametrize("keeps_others", [True, False])
def test_a_refusal_says_what_fits_or_what_it_needs(row: ModelRow, keeps_others: bool) -> None:
    def report(path: Path, *args: Any, **options: Any) -> Any:
        found = plan_report(path, *args, **options)
        assert found.chosen is not None
        others = (replace(found.chosen, flags="--n-ctx 2048 --kv-type q8_0"),) if keeps_others else ()
        refusal = NotEnoughMemory("Needs 21.4 GiB, 16.0 GiB free.")
        return replace(found, chosen=None, refusal=refusal, others=others)

    plans = Plans(load_settings(), report)
    plans.judge([row])
    verdict = plans.known(row)
    assert verdict is not None
    expected = "fits with q8_0 KV, context 2048" if keeps_others else "too large: needs 21.4 GiB"
    assert (verdict.fits, verdict.text) == (keeps_others, expected)
    assert plans.too_large == (frozenset() if keeps_others else {row.key})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--kv-type q8_0", "q8_0 KV"),
        ("--n-ctx 4096", "context 4096"),
        ("--gpu-layers 0", "--gpu-layers 0"),
        ("qwen3-8b:Q3_K_M", "qwen3-8b:Q3_K_M"),
    ],
)
def test_alternatives_are_told_in_words(flags: str, words: str) -> None:
    assert other_way(flags) == words


def test_the_recommended_file_is_the_best_that_fits() -> None:
    def file(tag: str, n_bytes: int, fits: bool) -> ModelFile:
        return ModelFile(tag, tag, n_bytes, Verdict(fits, "", ""))

    assert recommended([file("Q4_K_M", 4, False), file("Q4_0", 3, True), file("Q2_K", 2, True)]) == 1
    assert recommended([file("Q4_K_M", 4, False), file("Q2_K", 2, False), file("F16", 9, False)]) == 1
    assert recommended([]) == 0


def test_files_of_the_catalog_are_known_without_asking() -> None:
    entry = shipped_catalog().entries["qwen3-8b"]
    row = ModelRow("catalog:qwen3-8b", "catalog", "qwen3-8b", "chat", entry=entry, repo=entry.repo)
    found = files_of(row, Plans(load_settings()))
    assert found[0].ref == "qwen3-8b:Q4_K_M"
    assert {file.quantization for file in found} == set(entry.tags)


def test_filters_choose_by_kind_place_words_and_room() -> None:
    chat = ModelRow("a", "here", "org/chatty:Q4_K_M", "chat", n_params=8_000_000_000, place="huggingface")
    tiny = ModelRow("b", "catalog", "tiny-coder", "code", n_params=500_000_000)
    lora = ModelRow("c", "here", "lora", "adapter", n_params=1000, place="localllm")
    shelf = Shelf(here=(chat, lora), catalog=(tiny,))
    assert shelf.rows(Filter()) == [chat, lora, tiny]
    assert shelf.rows(Filter(source="here")) == [chat, lora]
    assert shelf.rows(Filter(kind="tiny")) == [tiny]
    assert shelf.rows(Filter(kind="chat")) == [chat]
    assert shelf.rows(Filter(words="CODER tiny")) == [tiny]
    assert shelf.rows(Filter(only_fitting=True), too_large={"a"}) == [lora, tiny]
