"""``auto`` against fixed bounds on simulated systems, and in a plan. The wider table: benchmarks/auto_bound.py."""

from dataclasses import replace

import pytest
from leeway_rl.benchmarks.auto_bound import compare, system
from leeway_rl.common.config import Flow
from leeway_rl.leeway.planning.plan import figures
from leeway_rl.leeway.planning.simulate import simulate


@pytest.mark.parametrize("train_s", [20.0, 2.0], ids=["the learner is slower", "rollout is slower"])
def test_auto_is_as_fast_as_the_best_fixed_bound_and_never_above_it(train_s):
    found = compare(system(0.3, train_s, 0, 500))
    assert found.least == 1
    assert found.share >= 0.97  # with its first steps, at a bound of 0
    assert {bound for _, bound in found.turns} == {0, 1}


def test_a_heavy_tail_takes_it_as_far_as_versions_bring_something():
    found = compare(replace(system(1.0, 3.0, 0, 300), concurrency=50, peak=1e9))
    assert found.least >= 2
    assert max(bound for _, bound in found.turns) >= 2


def test_where_staleness_costs_more_than_it_brings_the_bound_goes_back_and_stays_away_ever_longer():
    outcome = simulate(replace(system(0.3, 8.0, 0, 500), max_staleness="auto", ess_lost=2.0))
    share = sum(step.bound for step in outcome.steps) / len(outcome.steps)
    assert 0 < share < 0.25
    assert max(step.bound for step in outcome.steps) == 1
    cheap = replace(outcome.system, auto=Flow(ess_price=0.1))
    assert [step.bound for step in simulate(cheap).steps][-400:] == [1] * 400


def test_a_plan_of_auto_tells_its_turns():
    row = figures(simulate(replace(system(0.1, 15.0, 0, 60), max_staleness="auto")))
    assert (row["max_staleness"], row["turns"]) == ("auto", [(0, 0), (12, 1)])
