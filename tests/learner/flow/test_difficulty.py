"""What results say of prompts: solved ones are dropped, those near one half preferred, in the order of tickets."""

import itertools
import json

from leeway_rl.common.config import Data
from leeway_rl.learner.flow.difficulty import Difficulty


def of(**rules):
    return Difficulty([Data(name="a", path="x", **rules), Data(name="b", path="y")], [3, 3])


def test_a_prompt_is_dropped_once_it_was_solved_so_often_in_a_row():
    known = of(drop_solved=2)
    for ticket, (prompt, solved) in enumerate([("a:1", 1.0), ("a:2", 1.0), ("a:1", 0.5), ("a:2", 1.0), ("a:1", 1.0)]):
        known.saw(ticket, 0, prompt, solved)
    assert known.look().dropped == ["a:2"]
    known.saw(5, 0, "a:1", 1.0)
    assert known.look().dropped == ["a:1"]
    assert known.often == {"a:1": 0.0, "a:2": 0.0}


def test_the_last_prompts_of_a_source_are_not_dropped():
    known = of(drop_solved=1)
    for ticket in range(3):
        known.saw(ticket, 0, f"a:{ticket}", 1.0)
    assert known.look().dropped == []
    known.saw(4, 0, "a:0", 1.0)
    assert known.look().dropped == ["a:0"]


def test_prompts_near_one_half_are_preferred_and_none_comes_rarer_than_said():
    known = of(prefer_half=0.2)
    for ticket, solved in enumerate([0.5, 0.0, 0.875]):
        known.saw(ticket, 0, f"a:{ticket}", solved)
    look = known.look()
    assert (look.dropped, look.rarer) == ([], 2)
    assert known.often == {"a:1": 0.2, "a:2": 4 * 0.875 * 0.125}
    known.saw(3, 0, "a:1", 1.0)  # half of what was, half of what is
    known.look()
    assert "a:1" not in known.often


def test_a_source_without_a_rule_is_left_alone():
    known = of(drop_solved=1)
    known.saw(0, 1, "b:1", 1.0)
    known.look()
    assert (known.often, known.follows, known.state()["known"]) == ({}, [0], {})


def test_the_order_in_which_groups_end_does_not_matter():
    ended = [(0, 0, "a:1", 1.0), (1, 0, "a:1", 0.25), (2, 0, "a:2", 1.0), (3, 0, "a:1", 1.0)]
    found = set()
    for order in itertools.permutations(ended):
        known = of(drop_solved=1, prefer_half=0.1)
        for each in order:
            known.saw(*each)
        known.look()
        found.add(json.dumps(known.state(), sort_keys=True))
    assert len(found) == 1


def test_what_is_known_goes_through_a_checkpoint():
    known = of(drop_solved=2, prefer_half=0.1)
    known.saw(0, 0, "a:1", 1.0)
    known.look()
    known.saw(1, 0, "a:1", 1.0)
    again = of(drop_solved=2, prefer_half=0.1)
    again.restore(json.loads(json.dumps(known.state())))
    assert again.look() == known.look()
    assert again.state() == known.state()
