"""How much of a prompt was reused, from where, and why not more: said truly, and never at the price of other tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localllm.engine import Engine, PrefixReuse, disk_tier
from localllm.engine.kv_store import KVStore
from localllm.llama import Model
from tests.engine.driving import STEADY_KV, EngineFactory, Outcome, generate, prompt_of, submit
from tests.tiny_model import write_tiny_model


def ask(engine: Engine, prompt: list[int], **fields: object) -> Outcome:
    return generate(engine, prompt, max_tokens=8, ignore_eos=True, **fields)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short prefixes are saved too."""
    monkeypatch.setattr(disk_tier, "MIN_STORED", 64)


def reuse(outcome: Outcome) -> PrefixReuse:
    found = outcome.finish.usage.cache
    assert found is not None and found.prompt == outcome.finish.usage.prompt_tokens
    return found


def push_out(engine: Engine) -> None:
    """Have everything idle moved to RAM: streams run, and more than a few cells are idle."""
    ended = [submit(engine, prompt_of(900 + i, 40), max_tokens=24, ignore_eos=True)[1] for i in range(3)]
    for outcome in ended:
        outcome.wait()


def test_first_prompt_finds_nothing_and_the_same_again_finds_all(engine: Engine) -> None:
    prompt = prompt_of(1, 300)
    assert reuse(ask(engine, prompt)) == PrefixReuse(reused=0, prompt=300, source="none", why="nothing_kept")
    assert reuse(ask(engine, prompt)) == PrefixReuse(reused=299, prompt=300, source="context", why="all")


def test_next_turn_reuses_all_there_was_and_the_rest_is_new(engine: Engine) -> None:
    prompt = prompt_of(2, 300)
    answer = ask(engine, prompt).tokens
    found = reuse(ask(engine, [*prompt, *answer, *prompt_of(3, 20)]))
    assert found == PrefixReuse(reused=307, prompt=328, source="context", why="new")


def test_prompt_that_leaves_the_kept_one_says_where(engine: Engine) -> None:
    prompt = prompt_of(4, 300)
    ask(engine, prompt)
    found = reuse(ask(engine, [*prompt[:200], (prompt[200] + 1) % 200, *prompt[201:]]))
    assert found == PrefixReuse(reused=200, prompt=300, source="context", why="differs", differs_at=200)


def test_request_that_wants_no_cache_says_so(engine: Engine) -> None:
    ask(engine, prompt_of(5, 300))
    assert reuse(ask(engine, prompt_of(5, 300), cache_prompt=False)).why == "disabled"


def test_request_that_never_started_says_so(make_engine: EngineFactory) -> None:
    engine = make_engine(n_slots=1)
    _, running = submit(engine, prompt_of(6, 30), max_tokens=500, ignore_eos=True)
    running.wait_for_token()
    waiting, outcome = submit(engine, prompt_of(7, 30), max_tokens=4)
    engine.cancel(waiting)
    assert reuse(outcome.wait()).why == "not_started"


def test_little_in_ram_is_not_worth_bringing_back(engine: Engine) -> None:
    prompt = prompt_of(8, 400)
    ask(engine, prompt)
    push_out(engine)
    found = reuse(ask(engine, [*prompt[:10], *prompt_of(9, 300)]))
    assert found == PrefixReuse(reused=0, prompt=310, source="none", why="too_short", differs_at=10)


def test_prefixes_are_reused_from_ram_then_from_the_context(engine: Engine) -> None:
    prompt = prompt_of(10, 400)
    ask(engine, prompt)
    push_out(engine)
    assert [reuse(ask(engine, prompt)).source for _ in range(2)] == ["ram", "context"]


def test_prefixes_are_reused_from_disk_once_then_from_nearer(
    make_engine: EngineFactory, tmp_path: Path, small: None
) -> None:
    prompt = prompt_of(11, 300)
    first = make_engine(store=KVStore(tmp_path, "model", 1 << 30))
    ask(first, prompt)
    first.close()
    engine = make_engine(store=KVStore(tmp_path, "model", 1 << 30))
    found = [reuse(ask(engine, prompt)) for _ in range(2)]
    assert [(r.reused, r.source, r.why) for r in found] == [(299, "disk", "all"), (299, "context", "all")]


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """A model of which five layers of six see only 64 tokens."""
    path = tmp_path_factory.mktemp("tiny") / "windowed.gguf"
    window: dict[str, bool | int | float | str | list[object]] = {"gemma3.attention.sliding_window": 64}
    write_tiny_model(path, arch="gemma3", head_dim=64, n_layer=7, n_ctx=4096, extra=window)
    with Model(path) as model:
        yield model


def moved(engine: Engine, place: str, reopen: Callable[[], Engine]) -> Engine:
    """Have what is kept lie at `place`."""
    if place == "ram":
        push_out(engine)
    elif place == "disk":
        engine.close()
        return reopen()
    return engine


@pytest.mark.parametrize("place", ["context", "ram", "disk"])
@pytest.mark.parametrize("n_common", [200, 307])
def test_sliding_window_layers_get_all_that_they_see(
    windowed: Model, make_engine: EngineFactory, tmp_path: Path, place: str, n_common: int, small: None
) -> None:
    """What is copied out lacks what the window has passed, so it cannot be cut: only a next turn fits."""

    def open_engine() -> Engine:
        return make_engine(model=windowed, kv_type=STEADY_KV, store=KVStore(tmp_path, "model", 1 << 30))

    engine = open_engine()
    prompt = prompt_of(12, 300)
    before = [*prompt, *ask(engine, prompt).tokens]
    engine = moved(engine, place, open_engine)
    other = [*before[:n_common], *prompt_of(13, 40)]
    outcome = ask(engine, other)
    found = reuse(outcome)
    if n_common == 307:
        assert (found.reused, found.source, found.why) == (307, place, "new")
    elif place == "context":
        assert (found.reused, found.source, found.why) == (200, place, "differs")
    else:
        assert (found.reused, found.why, found.differs_at) == (0, "no_rollback", 200)
    assert outcome.tokens == ask(make_engine(model=windowed, kv_type=STEADY_KV), other, cache_prompt=False).tokens


def test_what_came_back_without_its_past_is_not_cut_either(windowed: Model, make_engine: EngineFactory) -> None:
    """It is in the context again, but only as far as the windows saw when it left."""
    engine = make_engine(model=windowed, kv_type=STEADY_KV)
    prompt = prompt_of(14, 300)
    longer = [*prompt, *ask(engine, prompt).tokens, *prompt_of(15, 10)]
    push_out(engine)
    assert reuse(ask(engine, longer)).source == "ram"
    other = [*prompt[:200], *prompt_of(16, 40)]
    outcome = ask(engine, other)
    assert reuse(outcome).why == "no_rollback"
    assert outcome.tokens == ask(make_engine(model=windowed, kv_type=STEADY_KV), other, cache_prompt=False).tokens
