"""What a step reports of rewards that have parts."""

import numpy as np
import pytest
from leeway_rl.common.queue.entries import ScoredEntry
from leeway_rl.common.types import Part, Verdict, VerdictKind
from leeway_rl.learner.flow.graded import GradedGroups
from leeway_rl.learner.flow.tickets import Arrival
from leeway_rl.learner.packing import ScoredGroup

from tests.samples import a_ticket, some_responses


def arrived(number, *rewards, prompt_id="made-up:1"):
    """A group whose responses got (right, style) each, which come to right + style/10."""
    ticket = a_ticket(number, prompt_id=prompt_id)
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


def test_each_source_is_reported_by_itself_and_one_without_a_group_by_its_share_alone():
    graded = GradedGroups(solved_at=1.0, sources=("sums", "words", "none"))
    graded.add(arrived(0, (1.0, 0.0), (0.0, 0.0), prompt_id="sums:4"))
    graded.add(arrived(1, (1.0, 0.0), (1.0, 0.0), prompt_id="words:9"))
    graded.add(arrived(2, (1.0, 0.0), (1.0, 0.0), prompt_id="sums:5"))
    found = graded.reached(newest=2, stage=0, next_stage=0)
    sources = {key: value for key, value in found.items() if key.startswith("source/")}
    assert sources == {
        "source/sums/share": pytest.approx(2 / 3),
        "source/sums/reward_mean": 0.75,
        "source/sums/solved_share": 0.75,
        "source/sums/length_mean": 2.5,
        "source/words/share": pytest.approx(1 / 3),
        "source/words/reward_mean": 1.0,
        "source/words/solved_share": 1.0,
        "source/words/length_mean": 2.5,
        "source/none/share": 0.0,
    }


def test_a_part_is_a_mean_over_the_responses_that_it_judged():
    graded = GradedGroups(solved_at=1.0)
    graded.add(arrived(0, (1.0, 1.0), (1.0, 0.0)))
    other = arrived(1, (0.0, 0.0), (0.0, 0.0))
    bare = tuple(Verdict(kind=VerdictKind.CORRECT, reason="", seconds=0.0) for _ in range(2))
    graded.add(Arrival(entry=other.entry, group=other.group, verdicts=bare))
    found = graded.reached(newest=1, stage=0, next_stage=0)
    assert (found["reward/part/right"], found["reward/part/style"]) == (1.0, 0.5)
