"""Models whose memory cannot be rolled back: their prefixes are checkpoints, which serve only in whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localllm.engine import Engine, disk_tier
from localllm.engine.events import PrefixReuse
from localllm.engine.kv_store import KVStore
from localllm.llama import Model
from tests.engine.driving import EngineFactory, Outcome, generate, greedy_reference, prompt_of, submit
from tests.tiny_recurrent import write_tiny_recurrent


@pytest.fixture(scope="module", params=["mamba", "jamba"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = write_tiny_recurrent(tmp_path_factory.mktemp("tiny") / "tiny.gguf", arch=request.param)
    with Model(path) as loaded:
        assert not loaded.can_roll_back
        yield loaded


def ask(engine: Engine, prompt: list[int], **fields: object) -> Outcome:
    return generate(engine, prompt, max_tokens=12, ignore_eos=True, **fields)


def is_as_computed(model: Model, prompt: list[int], outcome: Outcome) -> bool:
    """Whether an answer is that of a bare loop, which stops at the first end of a turn."""
    reference = greedy_reference(model, prompt, 12)
    return len(reference) > 0 and outcome.tokens[: len(reference)] == reference


def reuse(outcome: Outcome) -> PrefixReuse:
    found = outcome.finish.usage.cache
    assert found is not None and found.reused == outcome.finish.usage.cached_tokens
    return found


def test_the_next_turn_goes_on_from_the_end_of_the_answer(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model)
    first = ask(engine, prompt_of(1, 100))
    longer = [*prompt_of(1, 100), *first.tokens, *prompt_of(2, 40)]
    second = ask(engine, longer)
    assert reuse(second) == PrefixReuse(reused=111, prompt=152, source="ram", why="new")
    alone = ask(make_engine(model=model), longer, cache_prompt=False)
    assert second.tokens == alone.tokens
    assert reuse(alone).why == "disabled"
    assert is_as_computed(model, prompt_of(1, 100), first)


def test_the_same_prompt_is_answered_again_from_its_last_token(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model)
    first, second = ask(engine, prompt_of(3, 100)), ask(engine, prompt_of(3, 100))
    assert second.tokens == first.tokens
    assert reuse(second) == PrefixReuse(reused=99, prompt=100, source="ram", why="all")


def test_a_turn_that_differs_after_the_prompt_goes_on_from_the_prompt(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model)
    first = ask(engine, prompt_of(4, 100))
    other = [*prompt_of(4, 100), *((t + 1) % 200 + 1 for t in first.tokens), *prompt_of(5, 20)]
    second = ask(engine, other)
    assert reuse(second) == PrefixReuse(reused=99, prompt=132, source="ram", why="no_rollback", differs_at=100)
    assert second.tokens == ask(make_engine(model=model), other).tokens


def test_a_beginning_that_two_prompts_share_is_kept_for_the_third(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model)
    document = prompt_of(6, 300)
    outcomes = [ask(engine, document + prompt_of(seed, 30)) for seed in (7, 8, 9)]
    assert [reuse(o).reused for o in outcomes] == [0, 0, 300]
    assert [reuse(o).why for o in outcomes] == ["nothing_kept", "no_rollback", "new"]
    assert outcomes[2].tokens == ask(make_engine(model=model), document + prompt_of(9, 30)).tokens


def test_many_at_once_each_go_on_from_their_own(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model, n_slots=4)
    prompts = [prompt_of(20 + i, 60 + 30 * i) for i in range(4)]
    firsts = [o.wait() for _, o in (submit(engine, p, max_tokens=12, ignore_eos=True) for p in prompts)]
    longer = [[*p, *f.tokens, *prompt_of(30 + i, 20)] for i, (p, f) in enumerate(zip(prompts, firsts, strict=True))]
    seconds = [o.wait() for _, o in (submit(engine, p, max_tokens=12, ignore_eos=True) for p in longer)]
    assert [reuse(o).reused for o in seconds] == [len(p) + 11 for p in prompts]
    for prompt, outcome in zip(longer, seconds, strict=True):
        assert is_as_computed(model, prompt, outcome)


def test_equal_prompts_at_once_are_computed_once(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model, n_slots=4)
    outcomes = [o for _, o in (submit(engine, prompt_of(40, 200), max_tokens=8, ignore_eos=True) for _ in range(4))]
    assert {tuple(o.wait().tokens) for o in outcomes} == {tuple(outcomes[0].tokens)}
    assert [reuse(o).reused for o in outcomes[1:]] == [199] * 3


def test_ram_holds_no_more_than_its_budget(model: Model, make_engine: EngineFactory) -> None:
    probe = make_engine(model=model)
    ask(probe, prompt_of(50, 200))
    one = probe.stats().host_cache_bytes // 2
    engine = make_engine(model=model, max_host_cache_bytes=int(3.5 * one))
    for seed in range(51, 57):
        ask(engine, prompt_of(seed, 200))
        assert engine.stats().host_cache_bytes <= 3.5 * one
    assert reuse(ask(engine, prompt_of(56, 200))).reused == 199
    assert reuse(ask(engine, prompt_of(51, 200))).why == "nothing_kept"
    without = make_engine(model=model, max_host_cache_bytes=0)
    assert ask(without, prompt_of(56, 200)).tokens == ask(engine, prompt_of(56, 200)).tokens
    assert without.stats().host_cache_bytes == 0


def test_a_long_conversation_keeps_its_last_turns(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model)
    prompt = prompt_of(60, 60)
    for turn in range(6):
        outcome = ask(engine, prompt)
        assert reuse(outcome).reused == (len(prompt) - 21 if turn else 0)
        assert engine.stats().n_cached_prefixes <= 4
        prompt = [*prompt, *outcome.tokens, *prompt_of(61 + turn, 20)]


def test_checkpoints_outlive_a_restart(
    model: Model, make_engine: EngineFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_tier, "MIN_STORED", 64)
    prompt = prompt_of(70, 300)
    first = make_engine(model=model, store=KVStore(tmp_path, "model", 1 << 30))
    answer = ask(first, prompt).tokens
    first.close()
    assert len(list(tmp_path.glob("*/*.kv"))) == 2
    longer = [*prompt, *answer, *prompt_of(71, 30)]
    alone = ask(make_engine(model=model), longer)
    engine = make_engine(model=model, store=KVStore(tmp_path, "model", 1 << 30))
    again = ask(engine, longer)
    assert reuse(again) == PrefixReuse(reused=311, prompt=342, source="disk", why="new")
    assert again.tokens == alone.tokens
    regenerated = ask(engine, prompt)
    assert reuse(regenerated) == PrefixReuse(reused=299, prompt=300, source="disk", why="all")
    assert regenerated.tokens == answer


def test_a_cancelled_prompt_leaves_nothing_wrong(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model, n_ctx=4096)
    request_id, outcome = submit(engine, prompt_of(80, 3000), max_tokens=4)
    engine.cancel(request_id)
    assert outcome.wait().finish.reason == "cancelled"
    again = ask(engine, prompt_of(80, 3000))
    assert again.tokens == ask(make_engine(model=model, n_ctx=4096), prompt_of(80, 3000), cache_prompt=False).tokens


def test_those_that_give_way_go_on_with_the_same_tokens(model: Model, make_engine: EngineFactory) -> None:
    engine = make_engine(model=model, n_ctx=256, n_slots=4)
    prompts = [prompt_of(90 + i, 50) for i in range(4)]
    outcomes = [o for _, o in (submit(engine, p, max_tokens=40, ignore_eos=True) for p in prompts)]
    assert sum(o.wait().finish.timings.n_preemptions for o in outcomes) > 0
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        assert outcome.tokens == generate(make_engine(model=model), prompt, max_tokens=40, ignore_eos=True).tokens
    again = generate(engine, prompts[0], max_tokens=40, ignore_eos=True)
    assert reuse(again).reused == 49 and again.tokens == outcomes[0].tokens
