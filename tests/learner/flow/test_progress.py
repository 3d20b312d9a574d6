"""Trained groups and optimizer updates, and staleness in updates, beside what was worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from leeway_rl.common.config import compose
from leeway_rl.learner.flow.progress import Progress
from leeway_rl.learner.packing import ScoredGroup
from leeway_rl.learner.step_metrics import in_updates

from tests.samples import a_ticket, some_responses

STAGES = [
    "train.groups_per_step=8",
    "train.minibatch_groups=4",
    "train.reuse=2",
    "stages=[{from_step=3,groups_per_step=4,minibatch_groups=4},{from_step=5,groups_per_step=16}]",
]
"""(groups, updates) a step: (8, 4) in steps 0 to 2, (4, 2) in steps 3 and 4, (16, 8) from step 5 on."""


@pytest.fixture
def progress():
    return Progress(compose(["tiny"], STAGES))


def test_groups_and_updates_are_counted_by_the_stage_of_the_step(progress):
    for groups, stage in ((8, 0), (8, 0), (8, 0), (4, 1), (4, 1), (16, 2)):
        progress.trained(groups, stage)
    assert progress.state() == {"groups": 48, "updates": 3 * 4 + 2 * 2 + 8}


def test_what_was_counted_before_a_checkpoint_stays_whatever_the_configuration_says_now(progress):
    progress.restore({"version": 4, "progress": {"groups": 1000, "updates": 7}})
    progress.trained(4, 1)
    assert progress.state() == {"groups": 1004, "updates": 9}


def test_of_a_checkpoint_that_did_not_count_the_configuration_tells(progress):
    progress.restore({"version": 6})
    assert progress.state() == {"groups": 48, "updates": 24}


def test_updates_before_a_step_cross_stages(progress):
    assert progress.updates_before(np.arange(8)).tolist() == [0, 4, 8, 12, 14, 16, 24, 32]


def a_group(*spans):
    ticket = a_ticket(0)
    responses = replace(some_responses(ticket), spans=np.array(spans, np.uint32))
    return ScoredGroup(ticket=ticket, responses=responses, rewards_S=np.array([1.0, 0.0]))


def test_staleness_in_updates_is_that_worked_out_by_hand(progress):
    groups = [a_group((0, 2, 0, 1), (0, 4, 1, 3), (1, 5, 0, 2)), a_group((0, 5, 0, 3), (1, 4, 0, 2))]
    found = in_updates(groups, 5, progress, lag=3.5, oldest=None)
    # Before step 5 stand 16 updates; before 2, 4 and 5 stand 8, 14 and 16.
    assert found == {
        "staleness/token_updates_mean": pytest.approx((1 * 8 + 2 * 2 + 2 * 0 + 3 * 0 + 2 * 2) / 10 + 3.5),
        "staleness/head_updates_mean": (8 + 2) / 2,
        "staleness/head_updates_max": 8,
    }
    masked = in_updates(groups, 5, progress, lag=0.0, oldest=1)
    assert masked["staleness/token_updates_mean"] == pytest.approx((2 * 2 + 2 * 2) / 9)


def test_with_one_update_a_step_it_is_the_staleness_in_versions():
    plain = Progress(compose(["tiny"], []))
    found = in_updates([a_group((0, 2, 0, 3), (1, 4, 0, 2))], 5, plain, lag=0.0, oldest=None)
    assert found["staleness/token_updates_mean"] == pytest.approx((3 * 3 + 2 * 1) / 5)
    assert found["staleness/head_updates_max"] == 3
