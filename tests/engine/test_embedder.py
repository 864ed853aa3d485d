"""Which texts share a batch, how large contexts become, and that a visit keeps to its time. Visits are made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from localllm.engine import embedder as embedder_module
from localllm.engine.embedder import Embedder
from localllm.engine.lane import Lane
from localllm.engine.vectors import VectorsEvent
from localllm.errors import DecodeFailed
from localllm.hardware.types import LoadPlan, MemoryEstimate
from localllm.llama import Model
from tests.engine.driving import prompt_of
from tests.tiny_model import write_tiny_model

MakeEmbedder = Callable[..., Embedder]
GIB = 1 << 30


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> list[Lane]:
    """The contexts that were made, each with its size."""
    made: list[Lane] = []
    original = Lane.__init__

    def init(self: Lane, *args: object, **options: object) -> None:
        original(self, *args, **options)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Lane, "__init__", init)
    return made


@pytest.fixture
def make_embedder(tiny: Model) -> Iterator[MakeEmbedder]:
    made: list[Embedder] = []

    def make(*, model: Model = tiny, n_ctx: int = 4096, is_causal: bool = True) -> Embedder:
        plan = LoadPlan("", n_ctx, 4, 0, "f16", "f16", 512, 512, 1, MemoryEstimate(0, 1 << 20, 0))
        made.append(Embedder(model, plan, n_ctx=n_ctx, is_causal=is_causal))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


class Answers:
    """Collects events; the order of their ids is the order in which requests ended."""

    def __init__(self) -> None:
        self.events: list[VectorsEvent] = []

    def __call__(self, event: VectorsEvent) -> None:
        self.events.append(event)

    @property
    def ids(self) -> list[int]:
        return [event.request_id for event in self.events]


def run(embedder: Embedder, budget_s: float = 1.0, n_visits: int = 1000) -> int:
    """Visit until nothing is left to do; return the number of visits."""
    for n in range(n_visits):
        if not embedder.has_work:
            return n
        embedder.visit(budget_s)
    raise AssertionError("it never ends")


def test_long_text_comes_in_pieces_that_fit_the_budget(make_embedder: MakeEmbedder) -> None:
    embedder, whole, pieces = make_embedder(), Answers(), Answers()
    text = prompt_of(1, 1500)
    embedder.submit([text], "mean", whole)
    assert run(embedder) < 10
    embedder._per_token_s = 0.001
    embedder.submit([text], "mean", pieces)
    n_before = embedder.n_tokens_embedded
    embedder.visit(0.05)
    assert embedder.n_tokens_embedded - n_before == 50
    run(embedder)
    np.testing.assert_allclose(pieces.events[0].vectors, whole.events[0].vectors, rtol=0, atol=4e-3)


def test_first_visit_is_small_since_nobody_knows_what_a_token_costs(make_embedder: MakeEmbedder) -> None:
    embedder = make_embedder()
    embedder.submit([prompt_of(1, 1500)], "mean", Answers())
    embedder.visit(10.0)
    assert embedder.n_tokens_embedded == embedder_module.N_FIRST


def test_requests_take_turns_text_by_text(make_embedder: MakeEmbedder) -> None:
    embedder, answers = make_embedder(), Answers()
    many = embedder.submit([prompt_of(n, 60) for n in range(100)], "mean", answers)
    few = [embedder.submit([prompt_of(n, 60)], "last", answers) for n in range(5)]
    run(embedder)
    assert answers.ids == [*few, many]


def test_contexts_are_as_large_as_needed_and_given_back(make_embedder: MakeEmbedder, lanes: list[Lane]) -> None:
    embedder, answers = make_embedder(), Answers()
    for n_tokens in (10, 900, 3000, 20):
        embedder.submit([prompt_of(1, n_tokens)], "mean", answers)
        run(embedder)
    assert [lane.n_cells for lane in lanes] == [1024, 4096, 1024]
    assert len(answers.events) == 4


def test_long_text_waits_for_the_texts_in_the_small_context(make_embedder: MakeEmbedder, lanes: list[Lane]) -> None:
    embedder, answers = make_embedder(), Answers()
    texts = [prompt_of(n, length) for n, length in enumerate((600, 300, 2000, 40))]
    embedder.submit(texts, "last", answers)
    run(embedder)
    assert [lane.n_cells for lane in lanes] == [1024, 2048]
    for index, text in enumerate(texts):
        embedder.submit([text], "last", answers)
        run(embedder)
        np.testing.assert_allclose(answers.events[-1].vectors[0], answers.events[0].vectors[index], rtol=0, atol=4e-3)


def test_want_of_memory_ends_the_request_that_needs_it_alone(
    make_embedder: MakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, answers = make_embedder(), Answers()
    small = embedder.submit([prompt_of(1, 10)], "mean", answers)
    run(embedder)
    monkeypatch.setattr(embedder_module, "available_ram_bytes", lambda: 1 << 20)
    large = embedder.submit([prompt_of(1, 3000)], "mean", answers)
    run(embedder)
    assert answers.ids == [small, large]
    error = answers.events[-1].error
    assert error is not None and error.kind == "NotEnoughMemory" and "half of what is free" in error.message


def test_failed_batch_ends_its_requests_and_the_next_ones_work(
    make_embedder: MakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, answers = make_embedder(), Answers()

    def fail(self: Lane) -> None:
        raise DecodeFailed("It failed.", hint="Again.")

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "run", fail)
        for n in range(3):
            embedder.submit([prompt_of(n, 10)], "mean", answers)
        run(embedder)
    assert [event.reason for event in answers.events] == ["error"] * 3
    embedder.submit([prompt_of(1, 10)], "mean", answers)
    run(embedder)
    assert answers.events[-1].reason == "done"


def test_bug_in_a_batch_ends_every_request_and_nothing_else(
    make_embedder: MakeEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, answers = make_embedder(), Answers()
    with monkeypatch.context() as patch:
        patch.setattr(Lane, "fill", lambda self, pieces: 1 / 0)
        embedder.submit([prompt_of(1, 10)], "mean", answers)
        run(embedder)
    assert answers.events[0].error is not None and answers.events[0].error.kind == "EngineError"
    embedder.submit([prompt_of(1, 10)], "mean", answers)
    run(embedder)
    assert answers.events[-1].reason == "done"


def test_cancel_in_the_middle_frees_the_cells(make_embedder: MakeEmbedder, lanes: list[Lane]) -> None:
    embedder, answers = make_embedder(), Answers()
    request_id = embedder.submit([prompt_of(1, 500), prompt_of(2, 400)], "mean", answers)
    embedder.visit(1.0)
    assert lanes[0].open and lanes[0].n_cells_free < lanes[0].n_cells
    embedder.cancel(request_id)
    run(embedder)
    assert (answers.ids, answers.events[0].reason) == ([request_id], "cancelled")
    assert not lanes[0].open and lanes[0].n_cells_free == lanes[0].n_cells


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    extra = {"qwen3.pooling_type": 4, "qwen3.classifier.output_labels": ["yes", "no"]}
    path = write_tiny_model(tmp_path_factory.mktemp("rank") / "m.gguf", arch="qwen3", n_classes=2, extra=extra)
    with Model(Path(path)) as model:
        yield model


def test_vectors_and_scores_take_turns_in_contexts_of_their_own(
    make_embedder: MakeEmbedder, ranking: Model, lanes: list[Lane]
) -> None:
    embedder, answers = make_embedder(model=ranking, n_ctx=512), Answers()
    texts = [prompt_of(n, 100) for n in range(40)]
    vectors = embedder.submit(texts, "mean", answers)
    scores = embedder.submit(texts[:3], None, answers)
    run(embedder)
    assert answers.ids == [scores, vectors]
    assert sorted(lane.ranks for lane in lanes) == [False, True]
    assert answers.events[0].vectors.shape == (3, 1)


def test_score_of_a_pair_in_pieces_is_that_of_the_whole(make_embedder: MakeEmbedder, ranking: Model) -> None:
    embedder, answers = make_embedder(model=ranking, n_ctx=512), Answers()
    for per_token_s in (1e-9, 0.01):
        embedder._per_token_s = per_token_s
        embedder.submit([prompt_of(1, 400)], None, answers)
        run(embedder, 0.2)
    whole, pieces = (event.vectors[0, 0] for event in answers.events)
    assert pieces == pytest.approx(whole, abs=1e-3) and 0 < whole < 1


def test_decoder_that_looks_ahead_reads_whole_texts(make_embedder: MakeEmbedder, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "m.gguf", n_ctx=512, extra={"llama.attention.causal": False})
    with Model(path) as model:
        embedder, answers = make_embedder(model=model, n_ctx=512, is_causal=False), Answers()
        texts = [prompt_of(n, length) for n, length in enumerate((5, 300, 512, 20))]
        embedder.submit(texts, "mean", answers)
        run(embedder)
        for text in texts:
            embedder.submit([text], "mean", answers)
            run(embedder)
        singles = np.concatenate([event.vectors for event in answers.events[1:]])
        np.testing.assert_allclose(answers.events[0].vectors, singles, rtol=0, atol=4e-3)
        embedder.close()
