"""What is wrong is told as it begins and as it ends, whoever tells it."""

import logging
from dataclasses import replace

from leeway_rl.common.alarms import AGAIN_S, CALM_S, Teller

from tests.common.test_watch import look_at

LESSON = "look at the golds and the format that the prompt asks for"


def alike(at, groups, reward="0", **changes):
    return replace(look_at(at, **changes), alike=(groups, reward))


def told(teller, *looks):
    """The lines of every look, a second apart unless it says when."""
    return [[line.text for line in teller.look(now, now.at)] for now in looks]


def test_an_alarm_is_told_as_it_begins_and_not_at_every_look_though_its_numbers_change():
    teller = Teller(stall_s=1800)
    looks = [alike(second, 60 + second, done=second) for second in range(10)]
    lines = told(teller, *looks)
    assert [len(found) for found in lines] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert lines[4] == [f"alarm: every response of the last 64 groups got reward 0: nothing to learn from; {LESSON}"]


def test_one_that_lasts_is_told_again_with_its_numbers_of_then():
    teller = Teller(stall_s=10 * AGAIN_S)
    first, soon, later = told(teller, alike(0, 100), alike(AGAIN_S - 1, 900), alike(AGAIN_S, 1789))
    assert (len(first), soon) == (1, [])
    assert "the last 1789 groups" in later[0]


def test_one_that_is_over_is_said_to_be_and_one_that_comes_and_goes_is_told_once():
    teller = Teller(stall_s=1800)
    found = told(teller, alike(0, 64), alike(5, 0), alike(10, 64), alike(30, 0), alike(10 + CALM_S, 0), alike(200, 0))
    assert [len(lines) for lines in found] == [1, 0, 0, 0, 1, 0]
    assert found[4][0].startswith("over after 10 s: every response of the last 64 groups got reward 0")


def test_two_alarms_are_told_apart():
    teller = Teller(stall_s=1800)
    poisoned = alike(0, 64)
    poisoned = replace(poisoned, state={**poisoned.state, "poisoned": "9", "poison": "no such engine"})
    (lines,) = told(teller, poisoned)
    assert [line.partition("the last ")[0] for line in lines] == ["alarm: ", "alarm: every response of "]


def test_a_stall_is_told_by_the_rule_that_status_has_and_its_end_too():
    teller = Teller(stall_s=1800)
    alone = [replace(look_at(at), workers=[]) for at in (0, 29, 30, 31)]
    assert [len(lines) for lines in told(teller, *alone)] == [0, 0, 1, 0]
    assert teller.stalled.startswith("no learner is alive")
    (lines,) = [teller.look(look_at(40), 40.0)]
    assert [(line.level, line.text) for line in lines] == [(logging.INFO, "it moves again")]
    assert teller.stalled is None
