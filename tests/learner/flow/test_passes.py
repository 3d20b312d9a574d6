"""Pass after pass over a source's prompts; what is dropped or comes rarer leaves the order of the others alone."""

from collections import Counter

import numpy as np
import pytest
from leeway_rl.learner.flow.passes import Passes
from leeway_rl.learner.flow.prompts import Prompt

PROMPTS = [
    Prompt(prompt_id=f"p:{n}", tokens_P=np.array([3, n], np.uint32), ability="math", ground_truth=("4",))
    for n in range(10)
]


def ids(passes, draws):
    return [passes.prompt(draw).prompt_id for draw in draws]


def test_one_source_draws_what_it_drew_before_there_were_several():
    """The formula of every run so far: its tickets must stay what they are."""
    for draw in (0, 3, 9, 10, 57, 10_001):
        epoch, position = divmod(draw, 10)
        due = PROMPTS[np.random.default_rng([5, epoch]).permutation(10)[position]]
        assert Passes(PROMPTS, 5).prompt(draw) is due


def test_every_pass_has_every_prompt_once_and_its_own_order():
    passes = Passes(PROMPTS, 3, "sums")
    orders = [ids(passes, range(10 * number, 10 * number + 10)) for number in range(4)]
    assert all(len(set(order)) == 10 for order in orders)
    assert len(set(map(tuple, orders))) == 4
    assert ids(passes, reversed(range(40))) == [each for order in orders for each in order][::-1]
    assert orders[0] != ids(Passes(PROMPTS, 3, "others"), range(10))


@pytest.mark.parametrize("draw", [0, 4, 10, 37])
def test_a_dropped_prompt_is_skipped_and_the_others_come_as_they_would_have_come(draw):
    before = Passes(PROMPTS, 3, "sums")
    after = before.going_on({"p:2": 0.0, "p:7": 0.0}, draw)
    due = [each for each in ids(before, range(draw, draw + 60)) if each not in ("p:2", "p:7")]
    assert ids(after, range(draw, draw + len(due))) == due
    assert len(after) == 8


def test_the_same_looked_at_twice_changes_nothing():
    often = {"p:2": 0.0, "p:4": 0.3}
    once = Passes(PROMPTS, 3).going_on(often, 13)
    twice = once.going_on(often, 29)
    assert ids(once, range(29, 200)) == ids(twice, range(29, 200))


def test_a_prompt_comes_in_its_share_of_the_passes_and_at_most_once_in_each():
    often = {f"p:{n}": 0.1 * n for n in range(1, 10)} | {"p:0": 0.0}
    passes = Passes(PROMPTS, 11, "sums").going_on(often, 4)
    drawn = ids(passes, range(4, 4 + 3000))
    passes_made = passes.at(4 + 2999)[0]
    counted = Counter(drawn)
    assert counted["p:0"] == 0
    for name, share in often.items():
        assert abs(counted[name] - share * passes_made) <= 2, name
    assert ids(passes, range(2000, 2010)) == ids(Passes(PROMPTS, 11, "sums").going_on(often, 4), range(2000, 2010))


def test_few_prompts_that_all_come_rarely_still_come():
    passes = Passes(PROMPTS[:1], 2).going_on({"p:0": 0.05}, 3)
    assert ids(passes, range(3, 50)) == ["p:0"] * 47


def test_an_order_goes_on_from_what_a_checkpoint_keeps():
    passes = Passes(PROMPTS, 3, "sums").going_on({"p:1": 0.0}, 17).going_on({"p:1": 0.0, "p:5": 0.4}, 31)
    again = Passes(PROMPTS, 3, "sums").begun_at(passes.begun, passes.place, passes.often)
    assert ids(again, range(31, 120)) == ids(passes, range(31, 120))
