"""The bound that chooses itself, by hand and over random runs."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leeway_rl.common.config import Flow
from leeway_rl.learner.flow.auto_bound import KNOWN_FOR, LONGEST_REST, UNMEASURED, AutoBound, Prices, Standing
from leeway_rl.learner.flow.idling import Cycle

HERE = Standing(groups_per_step=4, places=2, depth=9.0)
PERIOD = 3


def a_bound(bound=0, **changes):
    plain = {"ceiling": 3, "period": PERIOD, "prices": Prices(version=0.02, ess=1.0, entropy=0.5)}
    auto = AutoBound(**(plain | changes))
    auto.begin(bound)
    auto.settling = 0
    return auto


def a_period(auto, *, seconds=10.0, waited=0.0, idle=0.0, fewest=0, ess=1.0, shortfall=0.0, standing=HERE):
    """One whole period of equal steps, after those that are not counted. Returns the bound at its end."""
    for _ in range(auto.settling + PERIOD):
        cycle = Cycle(seconds, waited * seconds, idle * seconds, fewest)
        auto.saw(cycle, ess=ess, shortfall=shortfall, standing=standing)
    return auto.bound


def test_a_version_is_tried_for_the_time_that_both_sides_lose_and_kept_for_what_it_brings():
    auto = a_bound()
    assert a_period(auto, seconds=10, waited=0.6, idle=0.4) == 1
    assert auto.gains == [pytest.approx(-math.log(0.6))]  # the most that it can bring
    assert auto.settling == 2  # the groups under way were issued under a bound of 0
    assert a_period(auto, seconds=7, waited=0.3) == 1
    assert auto.gains == [pytest.approx(math.log(10 / 7))]
    assert auto.before is None


@pytest.mark.parametrize(
    "lost",
    [{"waited": 0.0, "idle": 0.5}, {"waited": 0.5, "idle": 0.0}, {"waited": 0.0198, "idle": 0.5}],
    ids=["the learner is slower", "rollout is slower", "no more than the price"],
)
def test_where_one_side_loses_no_time_no_version_is_tried(lost):
    auto = a_bound()
    for _ in range(5):
        assert a_period(auto, **lost) == 0


def test_a_single_late_batch_is_no_reason_to_try():
    auto = a_bound()
    for waited in (0.0, 0.0, 0.9):
        auto.saw(Cycle(10, 10 * waited, 9, 0), ess=1.0, shortfall=0.0, standing=HERE)
    assert auto.bound == 0  # 0.3 on average, with a standard error of 0.3


def test_nor_is_one_tried_beyond_what_pacing_asks_for_or_the_ceiling():
    assert a_period(a_bound(), waited=0.5, idle=0.5, standing=HERE._replace(depth=1.0)) == 0
    assert a_period(a_bound(), waited=0.5, idle=0.5, standing=HERE._replace(depth=1.1)) == 1
    assert a_period(a_bound(3), waited=0.5, idle=0.5) == 3


def test_a_version_that_brings_too_little_goes_and_its_next_trials_come_ever_later():
    auto, trials, step = a_bound(), [], 0
    while len(trials) < 6:
        before = auto.bound
        auto.saw(Cycle(10, 5, 5, 0), ess=1.0, shortfall=0.0, standing=HERE)
        step += 1
        if auto.bound > before:
            trials.append(step)
    # A trial takes 2 + 3 steps, what follows it 1 + 3, and each further period until the rest is over 3.
    assert [later - sooner for sooner, later in itertools.pairwise(trials)] == [9, 12, 18, 30, 54]
    for _ in range(500):
        auto.saw(Cycle(10, 5, 5, 0), ess=1.0, shortfall=0.0, standing=HERE)
    assert auto.retry == LONGEST_REST


def test_ess_and_lacking_entropy_are_paid_in_throughput():
    for measured, kept in (({"ess": 0.9}, True), ({"ess": 0.7}, False), ({"shortfall": 0.3}, True), ({}, True)):
        auto = a_bound()
        a_period(auto, seconds=10, waited=0.6, idle=0.4)
        # A gain of ln(10/8) = 0.22; the prices are 0.02 and 0.105, 0.357, 0.15 or 0.
        assert (a_period(auto, seconds=8, **measured) == 1) is kept
    assert a_period(a_bound(), waited=0.2, idle=0.2, shortfall=0.5) == 0  # 0.22 at most, for 0.02 + 0.25
    assert Prices(0.0, 1.0, 0.0).of_drift(math.nan, 0.0) > 20  # what is no number counts as no sample at all


def test_it_comes_down_without_loss_where_pacing_or_a_queue_says_so():
    assert a_period(a_bound(2), standing=HERE._replace(depth=2.0)) == 1
    assert a_period(a_bound(2), standing=HERE._replace(depth=2.1)) == 2
    assert a_period(a_bound(2), fewest=6) == 1  # 2 places are full, and 4 groups wait, a batch
    assert a_period(a_bound(2), fewest=5) == 2


def test_it_comes_down_where_a_version_costs_more_than_it_brought():
    auto = a_bound()
    a_period(auto, seconds=10, waited=0.6, idle=0.4)
    assert a_period(auto, seconds=8) == 1  # 0.22
    assert a_period(auto, seconds=8, ess=0.85) == 1  # 0.02 + 0.16
    assert a_period(auto, seconds=8, ess=0.80) == 0  # 0.02 + 0.22
    assert "costs 24.3%" in auto.why


def test_what_a_version_brings_is_measured_again_after_a_while():
    auto = a_bound(1)
    assert auto.gains == [UNMEASURED]
    for _ in range(KNOWN_FOR - 1):
        assert a_period(auto) == 1
    assert a_period(auto) == 0


def test_an_alarm_lowers_it_at_once_and_lets_it_rest():
    auto = a_bound(2, least_ess=0.5, patience=7)
    auto.saw(Cycle(10, 5, 5, 0), ess=0.4, shortfall=0.0, standing=HERE)
    assert (auto.bound, auto.rest) == (1, 7)
    assert a_period(auto, waited=0.5, idle=0.5) == 1  # 5 of the 7 steps
    assert a_period(auto, waited=0.5, idle=0.5) == 2
    for _ in range(4):
        auto.saw(Cycle(10, 5, 5, 0), ess=math.nextafter(0.5, 0), shortfall=0.0, standing=HERE)
    assert auto.bound == 0


def test_other_places_or_another_stage_begin_a_period_anew():
    auto = a_bound(1)
    a_period(auto)
    auto.saw(Cycle(20, 0, 0, 0), ess=1.0, shortfall=0.0, standing=HERE)
    fewer = HERE._replace(places=1)
    auto.saw(Cycle(20, 0, 0, 0), ess=1.0, shortfall=0.0, standing=fewer)  # a worker is gone: not the bound's doing
    assert (auto.bound, auto.settling, auto.steps) == (1, 1, [])
    auto.begin_period()
    assert (auto.bound, auto.settling, auto.steps) == (1, 2, [])


@pytest.mark.parametrize("by", ["another stage", "a worker that is gone", "an operator's bound"])
def test_a_trial_that_is_cut_off_has_shown_nothing_and_counts_as_not_made(by):
    auto = a_bound()
    a_period(auto, waited=0.6, idle=0.4)
    a_period(auto, seconds=7)
    proven, state = list(auto.gains), auto.state()
    a_period(auto, seconds=7, waited=0.3, idle=0.3)
    assert (auto.bound, auto.before is None) == (2, False)
    standing = HERE
    if by == "another stage":
        auto.begin_period()
        assert "cut off" in auto.why
    elif by == "an operator's bound":
        auto.begin(2)
        assert (auto.gains, auto.before) == ([UNMEASURED] * 2, None)
        return
    else:
        standing = HERE._replace(places=1)
        auto.saw(Cycle(20, 0, 0, 0), ess=1.0, shortfall=0.0, standing=standing)
        assert "cut off" in auto.why
    assert (auto.gains, auto.before) == (proven, None)
    assert (auto.rest, auto.retry) == (state["rest"], state["retry"])
    assert a_period(auto, seconds=7, waited=0.3, idle=0.3, standing=standing) == 2, "it is tried again at once"


STEPS = st.lists(
    st.tuples(st.floats(0.1, 9), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=80
)


@given(STEPS, st.integers(0, 5), st.sampled_from([0.0, 0.3]))
def test_it_moves_by_single_versions_within_its_ceiling_and_a_checkpoint_keeps_it(steps, start, least):
    auto, again = (AutoBound.of(Flow(staleness_ceiling=3, staleness_period=2, least_ess=least)) for _ in range(2))
    auto.begin(start)
    for seconds, waited, idle, ess, shortfall in steps:
        before, state = auto.bound, json.loads(json.dumps(auto.state()))
        again.restore(state)
        again.places = auto.places
        for each in (auto, again):
            cycle = Cycle(seconds, waited * seconds, idle * seconds, 0)
            each.saw(cycle, ess=ess, shortfall=shortfall, standing=HERE)
        assert again.state() == auto.state()
        assert 0 <= auto.bound <= 3
        assert abs(auto.bound - before) <= 1
    lower = AutoBound.of(Flow(staleness_ceiling=1))
    lower.restore(auto.state())
    assert lower.bound == min(auto.bound, 1)
    assert lower.before is None or auto.bound <= 1
