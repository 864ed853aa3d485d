"""Simulations: drafts for recorded texts, on machines whose batches cost this or that."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from spec_simulation import Curve, Simulated, flat

from localllm.engine.speculation.acceptance import Acceptance, SharedRates
from localllm.engine.speculation.controller import Controller
from localllm.engine.speculation.model_drafter import PLACE_PRIORS
from localllm.engine.speculation.width_cost import WidthCost


def cpu(width: float) -> float:
    """Steps of width 1 that a batch takes, as measured with a 1.5B model on 2 cores: 4 cost 3.1, 16 10, 24 12."""
    points = [(1, 1.0), (4, 3.1), (16, 10.0), (24, 12.0), (48, 22.0)]
    for (w0, c0), (w1, c1) in itertools.pairwise(points):
        if width <= w1:
            return c0 + (c1 - c0) * (width - w0) / (w1 - w0)
    return 22.0 * width / 48


def prose(seed: int, n: int) -> list[int]:
    """Words by Zipf's law in short phrases that recur: short matches are everywhere, and mostly wrong."""
    rng = random.Random(seed)
    phrases = [[int(rng.paretovariate(0.6)) % 2000 for _ in range(rng.randint(1, 4))] for _ in range(300)]
    text: list[int] = []
    while len(text) < n:
        text += phrases[int(rng.paretovariate(0.7)) % 300]
    return text[:n]


def edited(source: list[int], seed: int, every: int = 60) -> list[int]:
    """Return a copy in which a token in `every` is another."""
    rng = random.Random(seed)
    return [rng.randrange(5000, 6000) if rng.random() < 1 / every else token for token in source]


def cpu_machine() -> Simulated:
    return Simulated(cpu, 0.5)


def gpu_machine() -> Simulated:
    return Simulated(flat, 0.01)


@pytest.mark.parametrize("machine", [cpu_machine, gpu_machine])
def test_prose_is_never_slower_to_speak_of(machine: Callable[[], Simulated]) -> None:
    simulated = machine()
    for seed in range(6):
        text = prose(seed, 1200)
        assert simulated.speedup(text[:400], text[400:]) >= 0.97


def test_edits_gain_on_a_cpu_most_of_what_wide_batches_can_give() -> None:
    simulated, source = cpu_machine(), prose(1, 900)
    speedups = [simulated.speedup(source, edited(source, seed)) for seed in range(4)]
    assert min(speedups) > 1.05 and sum(speedups) / 4 > 1.25
    assert simulated.speedup(source, source) > 1.7


def test_edits_gain_more_where_width_is_cheap() -> None:
    simulated, source = gpu_machine(), prose(1, 900)
    assert min(simulated.speedup(source, edited(source, seed)) for seed in range(4)) > 7


def test_eight_streams_draft_on_a_gpu_and_hardly_on_a_cpu() -> None:
    source = prose(2, 500)
    assert gpu_machine().speedup(source, edited(source, 1), n_streams=8) > 2
    for text in (prose(3, 500), edited(source, 1)):
        assert cpu_machine().speedup(source, text, n_streams=8) > 0.97


def test_text_that_repeats_only_to_break_off_costs_little() -> None:
    """The worst there is: every match runs for twenty tokens, then is wrong."""
    rng = random.Random(5)
    source = [rng.randrange(1000) for _ in range(2000)]
    text = [t for i in range(60) for t in source[i * 30 : i * 30 + 20]]
    simulated = cpu_machine()
    assert simulated.speedup(source, text) >= 0.96


def test_a_loss_is_paid_from_a_credit_that_comes_back_slowly() -> None:
    controller = Controller()
    cost = controller.cost(0, 1)
    cost.set_prior(0.1)
    lost, n_steps = 0.0, 2000
    for _ in range(n_steps):
        n = controller.choose([[0.9] * 10], cost, n_streams=1, n_max=47, max_ratio=99.0)[0]
        if n:
            controller.observe(cost, n_streams=1, n_drafted=n, n_accepted=0, ratio=1.0 + 0.1 * n)
            lost += 0.1 * n
        else:
            controller.credit_step()
    assert 4 < lost < 5 + 0.01 * n_steps


def test_a_copy_goes_on_soon_after_one_dear_loss() -> None:
    controller = Controller()
    cost = controller.cost(0, 1)
    cost.set_prior(0.4)
    controller.observe(cost, n_streams=1, n_drafted=47, n_accepted=0, ratio=20.0)

    def steps_until_drafted(*, was_right: bool) -> int:
        for n in range(1000):
            if controller.choose(
                [[0.99**i for i in range(1, 47)]], cost, n_streams=1, n_max=47, max_ratio=99.0, was_right=was_right
            )[0]:
                return n
            controller.credit_step()
        return 1000

    assert steps_until_drafted(was_right=False) == 1000
    assert steps_until_drafted(was_right=True) < 60


def test_forced_drafts_are_made_at_any_price_but_only_where_there_is_something() -> None:
    controller = Controller()
    cost = controller.cost(0, 2)
    cost.set_prior(5.0)
    options = {"n_streams": 2, "n_max": 47, "max_ratio": 1.0}
    assert controller.choose([[0.01, 0.001], []], cost, **options) == [0, 0]  # type: ignore[arg-type]
    forced = controller.choose([[0.01, 0.001], []], cost, **options, is_forced=True)  # type: ignore[arg-type]
    assert forced[0] > 0 and forced[1] == 0


def test_drafts_take_no_more_than_the_room_and_the_likeliest_first() -> None:
    controller = Controller()
    cost = controller.cost(0, 2)
    cost.set_prior(0.01)
    survivals = [[0.99 - i / 100 for i in range(40)], [0.6**i for i in range(1, 40)]]
    counts = controller.choose(survivals, cost, n_streams=2, n_max=12, max_ratio=99.0)
    assert sum(counts) == 12 and counts[0] > counts[1]


def test_a_step_with_others_is_not_longer_than_they_may_wait() -> None:
    controller = Controller()
    cost = controller.cost(0, 2)
    cost.set_prior(0.2)
    (n, _) = controller.choose([[0.999] * 47, []], cost, n_streams=2, n_max=47, max_ratio=3.3)
    assert 0 < 1.0 + 0.2 * n <= 3.3


def test_cost_curve_follows_measurements_and_never_falls() -> None:
    cost = WidthCost(1)
    cost.set_prior(0.3)
    rng = random.Random(0)
    for _ in range(60):
        for width in (4, 16, 24):
            cost.observe(width, cpu(width) * rng.gauss(1.0, 0.08))
    assert [cost.ratio(w) for w in (4, 16, 24)] == pytest.approx([3.1, 10.0, 12.0], rel=0.15)
    assert cost.ratio(10) == pytest.approx(cpu(10), rel=0.2)
    ratios = [cost.ratio(width) for width in range(1, 60)]
    assert ratios == sorted(ratios) and ratios[0] == 1.0


def test_one_pause_of_the_machine_does_not_end_drafting_for_ever() -> None:
    cost = WidthCost(1)
    cost.set_prior(0.3)
    cost.observe(16, 500.0)
    assert cost.ratio(16) < 12
    for _ in range(60):
        cost.forget()
    assert cost.ratio(16) == pytest.approx(1 + 0.3 * 15, rel=0.05)


def flat_and_cpu() -> list[tuple[Curve, float]]:
    return [(flat, 0.01), (cpu, 0.7)]


def drafted_by_model(curve: Curve, slope: float, *, accepted: float, drafting: float, seed: int = 0) -> float:
    """Return the speedup by a draft model whose every token is right with probability `accepted`."""
    controller, rng, rates = Controller(), random.Random(seed), SharedRates(PLACE_PRIORS)
    cost, acceptance = controller.cost(0, 1), Acceptance(rates)
    cost.set_prior(slope)
    n_made, spent = 0, 0.0
    while n_made < 4000:
        survival = acceptance.survival(range(16))
        (n,) = controller.choose([survival], cost, n_streams=1, n_max=47, max_ratio=99.0, drafting=[drafting])
        n_right = next((i for i in range(n) if rng.random() >= accepted), n)
        for place in range(min(n_right + 1, n)):
            acceptance.count(place, place < n_right)
        ratio = curve(1 + n) * rng.gauss(1.0, 0.05) if n else 1.0
        if n:
            controller.observe(cost, n_streams=1, n_drafted=n, n_accepted=n_right, ratio=ratio, drafting=n * drafting)
        else:
            controller.credit_step()
        n_made, spent = n_made + 1 + n_right, spent + ratio + n * drafting
    return n_made / spent


def test_draft_model_is_used_where_it_pays() -> None:
    assert drafted_by_model(flat, 0.01, accepted=0.8, drafting=0.1) > 1.8
    assert drafted_by_model(flat, 0.01, accepted=0.8, drafting=0.02) > 2.5
    assert drafted_by_model(lambda width: 1 + 0.3 * (width - 1), 0.3, accepted=0.9, drafting=0.1) > 1.3


@pytest.mark.parametrize(("curve", "slope"), flat_and_cpu())
@pytest.mark.parametrize(("accepted", "drafting"), [(0.05, 0.1), (0.3, 0.4), (0.6, 0.9), (0.9, 2.0)])
def test_draft_model_that_does_not_pay_costs_little(
    curve: Curve, slope: float, accepted: float, drafting: float
) -> None:
    assert drafted_by_model(curve, slope, accepted=accepted, drafting=drafting) > 0.97


def test_time_for_drafts_that_came_to_nothing_is_paid_for() -> None:
    controller = Controller()
    cost = controller.cost(0, 1)
    cost.set_prior(0.01)
    n_tried = 0
    for _ in range(1000):
        if controller.choose([[0.9] * 10], cost, n_streams=1, n_max=47, max_ratio=99.0, drafting=[0.1])[0]:
            n_tried += 1
            controller.credit_step(1.0)
        else:
            controller.credit_step()
    assert 0 < n_tried < 25


def test_expected_speed_says_whether_lookup_or_draft_model_is_faster() -> None:
    controller = Controller()
    cost = controller.cost(0, 1)
    cost.set_prior(0.05)
    long_match = controller.speed([0.97**i for i in range(1, 30)], cost, n_streams=1)
    short_match = controller.speed([0.3**i for i in range(1, 30)], cost, n_streams=1)
    model = controller.speed([0.75**i for i in range(1, 17)], cost, n_streams=1, drafting=0.1)
    assert long_match > model > short_match > 1.0
    assert controller.speed([], cost, n_streams=1) == 0.0
    assert controller.speed([0.9] * 16, cost, n_streams=1, max_ratio=1.1, drafting=0.1) == 0.0


def test_token_must_be_the_likelier_the_dearer_its_place_is() -> None:
    controller = Controller()
    cheap, dear = controller.cost(0, 1), controller.cost(1, 1)
    cheap.set_prior(0.02)
    dear.set_prior(0.7)
    assert controller.least_survival(cheap, n_streams=1, n_drafted=4, drafting=0.05) == pytest.approx(0.07)
    assert controller.least_survival(dear, n_streams=1, n_drafted=4, drafting=0.05) == pytest.approx(0.75)
