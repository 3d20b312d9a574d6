"""What an interval says about a claim."""

import math

import numpy as np
import pytest
from leeway_rl.leeway.sweeping.intervals import Interval
from leeway_rl.studies.verdict import METRICS, Claim, judge, together, verdict_on

INF = math.inf


def around(mean, half):
    return Interval(mean, half, 3)


@pytest.mark.parametrize(
    ("measured", "low", "high", "verdict"),
    [
        (around(-0.05, 0.04), -INF, 0, "agrees"),
        (around(-0.05, 0.06), -INF, 0, "undecided"),
        (around(0.05, 0.04), -INF, 0, "disagrees"),
        (around(0.01, 0.005), -0.02, 0.02, "agrees"),
        (around(0.01, 0.02), -0.02, 0.02, "undecided"),
        (around(0.05, 0.02), -0.02, 0.02, "disagrees"),
        (around(5.0, INF), 0, INF, "undecided"),
    ],
)
def test_an_interval_agrees_inside_disagrees_outside_and_is_undecided_across(measured, low, high, verdict):
    assert verdict_on(measured, low, high) == verdict


def test_a_claim_about_several_settings_needs_all_and_falls_with_one():
    assert together(["agrees", "agrees"]) == "agrees"
    assert together(["agrees", "undecided"]) == "undecided"
    assert together(["agrees", "undecided", "disagrees"]) == "disagrees"


def test_a_difference_is_taken_seed_by_seed():
    """Both settings vary by 0.3 over the seeds, their difference by 0.002."""
    values = {"more": [0.10, 0.40, 0.25], "base": [0.201, 0.500, 0.349]}
    claim = Claim(text="less", metric="entropy", of=(("more", "base"),), high=0.0, predicted="agrees")
    assert judge(claim, values).verdict == "agrees"
    alone = Claim(text="low", metric="entropy", of=(("more", None),), high=0.5, predicted="agrees")
    assert judge(alone, values).verdict == "undecided"


def test_the_last_third_counts_what_was_measured_in_it():
    measured = np.full(9, np.nan)
    measured[[2, 6, 8]] = 1.0, 3.0, 5.0
    assert METRICS["entropy"].reduce(measured) == 4.0
    assert math.isnan(METRICS["kl"].reduce(np.full(9, np.nan)))


def test_an_entropy_on_the_way_is_read_between_two_evaluations():
    def series(column):
        return {
            "evaluation/reward": np.array([0.52, np.nan, 0.62, 0.82, 0.6]),
            "evaluation/entropy": np.array([0.2, np.nan, 0.16, 0.12, 0.1]),
        }[column]

    assert METRICS["entropy on the way"].of(series) == pytest.approx(0.14)
    assert math.isnan(METRICS["entropy on the way"].of(lambda column: np.array([0.5, 0.6])))


def test_halfway_is_the_middle_third():
    assert METRICS["accuracy halfway"].reduce(np.arange(9.0)) == 4.0


def test_a_steady_fall_swings_less_than_ups_and_downs_of_the_same_size():
    swing = METRICS["swing"].reduce
    assert swing(np.arange(30.0)) == 1.0
    assert swing(np.array([0.0, 3.0] * 15)) == 3.0
