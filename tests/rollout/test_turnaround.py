"""What a worker's slots need between two groups is measured where they did not wait."""

import time

import pytest
from leeway_rl.rollout.turnaround import Slot, Turnaround


@pytest.fixture
def clock(monkeypatch):
    """Time stands still until it is moved on."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_time_between_two_groups_is_counted_once(clock):
    tally = Turnaround()
    slot, other = Slot(tally), Slot(tally)
    for seconds in (0.2, 0.4):
        slot.begins()
        slot.ends()
        clock[0] += seconds
    slot.begins()
    other.begins()  # its first group: nothing came before
    assert tally.taken() == {"generation/turnarounds": 2, "generation/turnaround_s_mean": pytest.approx(0.3)}
    assert tally.taken() == {}


def test_a_slot_that_waited_for_a_prompt_or_a_version_does_not_count(clock):
    tally = Turnaround()
    slot = Slot(tally)
    slot.begins()
    slot.ends()
    clock[0] += 30
    slot.waits()
    slot.begins()
    assert tally.taken() == {}
