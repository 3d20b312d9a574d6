"""Many claims at once."""

import math

import pytest
from leeway_rl.leeway.sweeping.intervals import Interval, interval
from leeway_rl.studies.holm import kept, p_value
from leeway_rl.studies.verdict import Claim, Finding
from scipy import stats

INF = math.inf
SPREAD = [0.09, 0.10, 0.14]


def finding(*measured, low=-INF, high=INF):
    of = tuple((f"setting {number}", None) for number in range(len(measured)))
    claim = Claim(text="made up", metric="entropy", of=of, low=low, high=high, predicted="agrees")
    return Finding(claim, measured)


def test_the_smallest_p_is_compared_with_the_level_over_all_and_the_first_above_ends_it():
    # By hand at 0.05: 0.005 against 0.0125, 0.01 against 0.0167, 0.03 against 0.025; 0.04 is not looked at any more.
    assert kept([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert kept([0.03, 0.04]) == [False, False]
    assert kept([0.02, 0.04]) == [True, True]


@pytest.mark.parametrize("bound", [0.0, 0.05, 0.2])
def test_p_is_that_of_a_two_sided_test_against_the_bound(bound):
    found = finding(interval(SPREAD), low=bound)
    assert p_value(found) == pytest.approx(stats.ttest_1samp(SPREAD, bound).pvalue)


@pytest.mark.parametrize(("low", "high"), [(0.0, INF), (-INF, 0.2), (0.0, 0.2), (0.09, INF), (0.3, INF), (0.3, 0.5)])
def test_p_is_below_one_in_twenty_exactly_where_the_verdict_is_decided(low, high):
    for half in (0.001, 0.05, 0.09, 0.11, 0.19, 0.21, 0.5):
        found = finding(Interval(0.1, half, 3), low=low, high=high)
        assert (p_value(found) < 0.05) == (found.verdict != "undecided"), half


def test_a_claim_about_several_settings_is_as_sure_as_its_worst_and_as_false_as_its_best_times_their_number():
    near, far = interval([0.05, 0.06, 0.10]), interval([0.5, 0.51, 0.55])
    alone = [p_value(finding(each, low=0.0)) for each in (near, far)]
    assert p_value(finding(near, far, low=0.0)) == max(alone)
    against = [p_value(finding(each, high=0.0)) for each in (near, far)]
    assert p_value(finding(near, far, high=0.0)) == 2 * min(against)


def test_one_seed_says_nothing_and_no_spread_at_all_says_everything():
    assert p_value(finding(interval([0.1]), low=0.0)) == 1
    assert p_value(finding(Interval(0.1, 0.0, 3), low=0.0)) == 0
    assert p_value(finding(Interval(0.1, 0.0, 3), high=0.0)) == 0
