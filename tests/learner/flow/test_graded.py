"""What a step reports of rewards that have parts."""

import numpy as np
import pytest
from leeway_rl.common.queue.entries import ScoredEntry
from leeway_rl.common.types import Part, Verdict, VerdictKind
from leeway_rl.learner.flow.graded import GradedGroups
from leeway_rl.learner.flow.tickets import Arrival
from leeway_rl.learner.packing import ScoredGroup

from tests.samples import a_ticket, some_responses


def arrived(number, *rewards):
    """A group whose responses got (right, style) each, which come to right + style/10."""
    ticket = a_ticket(number)
    verdicts = tuple(
        Verdict(
            kind=VerdictKind.SCORED,
            reason="",
            seconds=0.0,
            score=right + style / 10,
            parts=(Part(name="right", value=right), Part(name="style", value=style)),
        )
        for right, style in rewards
    )
    group = ScoredGroup(
        ticket=ticket, responses=some_responses(ticket), rewards_S=np.array([verdict.reward for verdict in verdicts])
    )
    entry = ScoredEntry(entry_id="1-1", group_id=ticket.group_id, failed=None)
    return Arrival(entry=entry, group=group, verdicts=verdicts)


def test_each_part_s_mean_is_over_all_graded_responses_and_solved_goes_by_the_whole_reward():
    graded = GradedGroups(solved_at=1.05)
    graded.add(arrived(0, (1.0, 1.0), (1.0, 0.0)))
    graded.add(arrived(1, (0.0, 1.0), (0.0, -3.0)))
    found = graded.reached(newest=1, stage=0, next_stage=0)
    assert found["reward/part/right"] == 0.5
    assert found["reward/part/style"] == -0.25
    assert found["reward/mean"] == pytest.approx(0.475)
    assert found["reward/solved_share"] == 0.25
