"""Intervals against numbers worked by hand, and against how often they hold."""

import math

import numpy as np
import pytest
from leeway_rl.leeway.sweeping.intervals import difference, interval


def test_three_values_against_the_table_of_student():
    found = interval([1.0, 2.0, 3.0])  # s = 1; t(0.975, 2) = 4.303 in any table
    assert found.mean == 2
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (found.low, found.high, found.count) == (found.mean - found.half, found.mean + found.half, 3)
    assert interval([1.0, 2.0, 3.0], 0.9).half == pytest.approx(2.919986 / math.sqrt(3), rel=1e-6)


def test_one_value_says_that_its_interval_is_unknown():
    found = interval([0.5])
    assert (found.mean, found.half, found.known, found.sign) == (0.5, math.inf, False, 0)
    assert found.text(2) == "0.50 ± ? (n = 1)"
    assert interval([]).text() == "–"
    assert math.isnan(interval([math.nan]).mean)


def test_what_is_not_a_number_is_left_out_and_not_counted():
    assert interval([1.0, math.nan, 3.0]) == interval([1.0, 3.0])
    assert interval([1.0, math.nan, 3.0]).count == 2


def test_pairing_takes_out_what_a_seed_does_to_both():
    baseline, values = [0.1, 0.5, 0.9], [0.2, 0.61, 0.99]
    assert interval(values).sign == interval(baseline).sign == 0
    found = difference(values, baseline)
    assert found.mean == pytest.approx(0.1)
    assert found.sign == 1
    assert difference(baseline, values).sign == -1
    assert difference(values, baseline).text(2, signed=True) == "+0.10 ± 0.02"


def test_a_seed_that_lacks_one_of_the_two_is_left_out():
    assert difference([1.0, math.nan, 3.0], [0.0, 0.0, math.nan]).count == 1


def test_equal_differences_have_an_interval_without_width():
    assert difference([2.0, 2.0], [1.0, 1.0]).half == 0
    assert difference([1.0, 1.0], [1.0, 1.0]).sign == 0


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_holds_the_truth_as_often_as_it_says(count):
    dice = np.random.default_rng(count)
    found = [interval(list(dice.normal(7.0, 3.0, count))) for _ in range(2000)]
    assert np.mean([each.low <= 7.0 <= each.high for each in found]) == pytest.approx(0.95, abs=0.015)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="needs one each a seed"):
        difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="above 0 and below 1"):
        interval([1.0, 2.0], 95)
