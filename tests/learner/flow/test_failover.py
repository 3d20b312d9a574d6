"""A replica takes over and lacks what was written last: the learner finds out at its next look, and puts it back."""

from dataclasses import replace

import numpy as np
import pytest
from leeway_rl.common import scored
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import BrokerError
from leeway_rl.common.queue.entries import LetterKind
from leeway_rl.common.types import TensorInfo
from leeway_rl.common.weights import FlatWeights, WeightPublisher, WeightReader
from leeway_rl.learner.packing import ScoredGroup
from leeway_rl.learner.train import fetched

from tests.installations import copied, fail_over
from tests.learner.flow.pieces import Learner
from tests.samples import a_ticket, some_responses, some_scores


@pytest.fixture
def learner(redis_url, bus, tmp_path):
    """A learner that has begun, with two groups of two a step at bound 0."""
    config = compose(
        ["tiny"], ["train.groups_per_step=2", "train.group_size=2", "train.steps=3", "flow.max_staleness=0"]
    )
    bus.record.store_config(dump(config))
    found = Learner(redis_url, bus.run, config, tmp_path, None)
    found.begin()
    yield found
    found.close()


def weights(seed):
    infos = (TensorInfo(name="w", dtype="bfloat16", shape=(64,)),)
    return FlatWeights(infos, np.random.default_rng(seed).integers(0, 255, 128, dtype=np.uint8))


def test_a_version_that_is_lost_is_there_again_at_the_next_look(learner, bus):
    publisher = WeightPublisher(learner.bus.weights, incarnation=1, transport="redis")
    learner.repair = publisher.repair
    publisher.publish(0, weights(0))
    learner.intake.turn(0)
    copy = copied(bus)
    publisher.publish(1, weights(1))
    fail_over(bus, copy, learner.bus)
    reader = WeightReader(bus.weights, worker="tester", retry_pause_s=0)
    assert reader.newest() == 0, "whoever waits for version 1 waits for ever"
    learner.intake.turn(0)
    version, found = reader.fetch(min_version=1)
    assert (version, found.buffer.tolist()) == (1, weights(1).buffer.tolist())


def test_a_run_whose_connections_hold_looks_for_nothing(learner):
    asked = []
    learner.repair = asked.append
    for _ in range(3):
        learner.intake.turn(0)
    assert len(asked) <= 1, "the first look is at a connection that was new"


def test_a_group_that_comes_twice_counts_once_and_one_whose_reply_was_lost_comes(learner, bus, monkeypatch):
    """Ticket 0 was ready when its scored entry was lost; then ticket 1 was delivered in a reply that never came."""
    monkeypatch.setattr(scored, "MEND_S", 0.0)
    intake = learner.intake
    intake.lifecycle.issue_while_room()
    first, second = bus.rollout.take(count=2, block_s=1, lease_s=60)

    def play(job):
        bus.rollout.hand_over(job, some_responses(bus.rollout.ticket(job)))
        (graded,) = bus.verifier.take(count=1, block_s=1, lease_s=60)
        bus.verifier.hand_over(graded, some_scores(bus.verifier.responses(graded)[0]))

    copy = copied(bus)
    play(first)
    intake.turn(0)
    assert [group.ready for group in intake.book.live.values()] == [True, False]
    fail_over(bus, copy, learner.bus)
    intake.turn(0)
    play(second)
    assert len(learner.bus.learner.scored(count=9, block_s=1)) == 1  # and nobody heard of it
    intake.turn(0)
    assert [group.ready for group in intake.book.live.values()] == [True, True]
    play(first)  # it was not handed over, for all that this server knows
    intake.turn(0)
    batch = intake.next_batch(0)
    assert [group.ticket.ticket for group in batch] == [0, 1]
    intake.trained(batch)
    intake.checkpointed()
    assert bus.overview.under_way(learner.bus.learner.stream) == {}


def test_a_rank_refuses_a_group_that_was_made_again_since_rank_0_took_it_in(learner, bus):
    ticket = a_ticket(0)
    bus.learner.issue(ticket)
    (job,) = bus.rollout.take(count=1, block_s=1, lease_s=60)
    bus.rollout.hand_over(job, some_responses(ticket))
    (job,) = bus.verifier.take(count=1, block_s=1, lease_s=60)
    bus.verifier.hand_over(job, some_scores(ticket))
    of_rank_0 = ScoredGroup(ticket=ticket, responses=some_responses(ticket), rewards_S=some_scores(ticket).rewards_S)
    (group,) = fetched(bus.learner, [("0-1", [0, 0], of_rank_0.sum)])
    assert (group.ticket.ticket, group.micro_batch_S) == (0, (0, 0))
    otherwise_sampled = some_responses(ticket, logprobs_T=np.full(5, -0.7, np.float32))
    for other in (replace(of_rank_0, responses=otherwise_sampled), replace(of_rank_0, rewards_S=np.array([0.0, 1.0]))):
        with pytest.raises(BrokerError, match="lost group 0-1 as rank 0 has taken it in"):
            fetched(bus.learner, [("0-1", [0, 0], other.sum)])
    with pytest.raises(BrokerError, match="lost group 1-1, which rank 0 has taken in"):
        fetched(bus.learner, [("1-1", [0], 0)])


def test_letters_are_read_by_a_clock_that_is_behind(learner, bus):
    learner.intake.turn(0)
    copy = copied(bus)
    ahead = learner.bus.redis.xadd(bus.keys.dead_letters, {"kind": "damaged"}, id=f"{int(bus.now() * 1000) + 10**7}-0")
    learner.intake.turn(0)
    assert learner.bus.learner.letter_id == ahead.decode()
    fail_over(bus, copy, learner.bus)
    bus.learner.dead_letter(LetterKind.GIVEN_UP, "prompts", "0-1", "no luck")
    learner.intake.turn(0)
    learner.intake.turn(0)
    assert learner.intake.counts.refunds["poison"] == 1
