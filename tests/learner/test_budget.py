"""train.hours counts what all starts of a run's learner have spent."""

from math import inf

from leeway_rl.learner import budget
from leeway_rl.learner.budget import Budget


def test_it_goes_on_from_what_the_checkpoint_says(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    first = Budget(2.0, 0.0)
    now[0] += 3600
    assert (first.spent_s, first.left_s, first.over) == (3600.0, 3600.0, False)
    second = Budget(2.0, first.spent_s)
    now[0] += 3599
    assert not second.over
    now[0] += 1
    assert (second.spent_s, second.over) == (7200.0, True)
    assert (Budget(None, 1e9).over, Budget(None, 1e9).left_s) == (False, inf)
