"""The guard by hand, and over random runs."""

from hypothesis import given
from hypothesis import strategies as st
from leeway_rl.learner.flow.guard import Guard


def test_it_goes_down_at_once_and_comes_back_slowly():
    guard, bounds = Guard(least_ess=0.5, patience=2), []
    for ess in (0.9, 0.4, 0.4, 0.6, 0.6, 0.6, 0.3, 0.5, 0.5, 0.5, 0.5, 0.5):
        guard.saw(ess, 4)
        bounds.append(guard.bound(4))
    assert bounds == [4, 3, 2, 2, 3, 3, 2, 2, 3, 3, 4, 4]


def test_at_zero_it_is_off():
    guard = Guard(least_ess=0.0, patience=1)
    guard.saw(0.0, 3)
    assert guard.bound(3) == 3


def test_the_operators_word_resets_it():
    guard = Guard(least_ess=0.5, patience=3)
    guard.saw(0.1, 2)
    guard.reset()
    assert guard.bound(8) == 8


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(0, 5), st.integers(1, 5))
def test_the_bound_stays_between_zero_and_the_operators_and_a_checkpoint_keeps_it(ess, asked, patience):
    guard = Guard(least_ess=0.5, patience=patience)
    for share in ess:
        before = guard.bound(asked)
        guard.saw(share, asked)
        assert 0 <= guard.bound(asked) <= asked
        assert abs(guard.bound(asked) - before) <= 1
    calm = len(ess) and min(ess) >= 0.5
    assert not calm or guard.bound(asked) == asked
    again = Guard(least_ess=0.5, patience=patience)
    again.restore(guard.state())
    assert again == guard
