"""What a step reports of every graded group: of rewards that have parts, and of what was solved."""

from dataclasses import replace

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


C, W, N, T = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.NO_ANSWER, VerdictKind.TIMEOUT


def of_four(number, kinds, lengths, finished=(1, 1, 1, 1)):
    """A group of four responses of these verdicts and lengths."""
    ticket = a_ticket(number, group_size=4)
    verdicts = tuple(Verdict(kind=kind, reason="", seconds=0.0) for kind in kinds)
    responses = some_responses(
        ticket,
        tokens_T=np.zeros(sum(lengths), np.uint16),
        logprobs_T=np.zeros(sum(lengths), np.float32),
        lengths_S=np.array(lengths, np.uint32),
        finished_S=np.array(finished, np.uint8),
        spans=np.array([[place, 0, 0, length] for place, length in enumerate(lengths)], np.uint32),
    )
    rewards_S = np.array([verdict.reward for verdict in verdicts])
    entry = ScoredEntry(entry_id="1-1", group_id=ticket.group_id, failed=None)
    return Arrival(
        entry=entry, group=ScoredGroup(ticket=ticket, responses=responses, rewards_S=rewards_S), verdicts=verdicts
    )


def test_how_many_are_solved_pass_at_k_what_is_completed_and_lengths_by_verdict_are_those_worked_out_by_hand():
    graded = GradedGroups(solved_at=1.0)
    graded.add(of_four(0, (C, W, W, N), (1, 2, 3, 8), finished=(1, 1, 1, 0)))
    graded.add(of_four(1, (C, C, W, T), (5, 7, 9, 4), finished=(1, 0, 1, 1)))  # one is right, and cut off behind it
    graded.add(of_four(2, (W, W, W, W), (1, 1, 1, 1)))
    found = graded.reached(newest=2, stage=0, next_stage=0)
    assert {name: value for name, value in found.items() if name.startswith(("solved/", "verdict/"))} == {
        "solved/groups_0": 1,
        "solved/groups_1": 1,
        "solved/groups_2": 1,
        "solved/groups_3": 0,
        "solved/groups_4": 0,
        "solved/pass_at_1": pytest.approx((1 / 4 + 2 / 4 + 0) / 3),
        "solved/pass_at_2": pytest.approx((1 - 3 / 6 + 1 - 1 / 6 + 0) / 3),  # pairs without a right one: C(4-c, 2) of 6
        "solved/pass_at_4": pytest.approx(2 / 3),
        "solved/completed_share": 2 / 12,
        "verdict/correct/share": 3 / 12,
        "verdict/correct/length_mean": (1 + 5 + 7) / 3,
        "verdict/no_answer/share": 1 / 12,
        "verdict/no_answer/length_mean": 8.0,
        "verdict/timeout/share": 1 / 12,
        "verdict/timeout/length_mean": 4.0,
        "verdict/wrong/share": 7 / 12,
        "verdict/wrong/length_mean": (2 + 3 + 9 + 4) / 7,
    }
    assert found["generated/truncated_share"] == 2 / 12


def test_pass_at_k_goes_up_to_the_smallest_group_and_the_histogram_to_the_largest():
    """Where a stage ends, groups of two sizes may be reported together."""
    graded = GradedGroups(solved_at=1.0)
    graded.add(of_four(0, (C, C, C, C), (1, 1, 1, 1)))
    pair = arrived(1, (1.0, 0.0), (0.0, 0.0))
    graded.add(replace(pair, group=replace(pair.group, ticket=a_ticket(1, stage=1))))
    found = graded.reached(newest=0, stage=0, next_stage=2)
    assert [name for name in found if name.startswith("solved/")] == [
        *(f"solved/groups_{number}" for number in range(5)),
        "solved/pass_at_1",
        "solved/pass_at_2",
        "solved/completed_share",
    ]
    assert found["solved/pass_at_1"] == 0.75
    assert found["solved/pass_at_2"] == 1.0


def test_a_reward_that_is_a_number_counts_as_correct_where_it_is_enough():
    graded = GradedGroups(solved_at=1.05)
    graded.add(arrived(0, (1.0, 1.0), (1.0, 0.0)))
    found = graded.reached(newest=0, stage=0, next_stage=0)
    lengths = {name: value for name, value in found.items() if name.endswith("/length_mean")}
    assert lengths == {
        "generated/length_mean": 2.5,
        "verdict/correct/length_mean": 3.0,
        "verdict/wrong/length_mean": 2.0,
    }
