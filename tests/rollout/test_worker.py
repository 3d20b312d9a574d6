"""The rollout worker takes new weights in beside its sampling: fetched first, then loaded, then let go."""

import threading

import numpy as np
import pytest
import redis
from leeway_rl.common.activity import Activity
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import ConfigError, EnvironmentFailed
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.common.service import Service
from leeway_rl.common.types import TensorInfo
from leeway_rl.common.weights import FlatWeights, NodeCopy, WeightPublisher, node_folder
from leeway_rl.rollout.__main__ import refuse_too_small
from leeway_rl.rollout.worker import RolloutWorker

from tests.samples import a_ticket, some_responses

INFOS = (TensorInfo(name="a", dtype="bfloat16", shape=(32, 4)),)


class Engine:
    """Notes what it is given, and samples at once."""

    concurrency = 1

    def __init__(self) -> None:
        self.version, self.sampled = -1, 0
        self.loads = []

    def load(self, version, tensors, file=None):
        self.version = version
        self.loads.append((version, tensors["a"].float().sum().item(), file))
        return 0.0

    def generate(self, ticket):
        self.sampled += 1
        return some_responses(ticket, version=self.version)

    def abort(self, group_id):
        pass


@pytest.fixture
def run(bus, tmp_path):
    """A run of one worker in a thread, and the publisher of its weights."""
    config = compose(["tiny"], [f"weights.node_folder={str(tmp_path)!r}"])
    bus.learner.record.store_config(dump(config))
    publisher = WeightPublisher(bus.learner.weights, incarnation=1, transport="redis")
    engine = Engine()
    with Service(bus.rollout, "rollout", lease_s=60, heartbeat_s=60) as service:
        worker = RolloutWorker(bus.rollout, service, engine, config)
        thread = threading.Thread(target=worker.run)
        thread.start()
        yield worker, engine, lambda version: publisher.publish(version, weights_of(version)), service
        service.stopping.set()
        thread.join(100)
        assert not thread.is_alive()
    assert list(tmp_path.iterdir()) == []  # the last worker takes the node's copy with it


def weights_of(version: int) -> FlatWeights:
    return FlatWeights(INFOS, np.full(128, version, np.float32).view(np.uint16)[1::2].copy().view(np.uint8))


def test_the_engine_loads_the_nodes_file_and_the_copy_is_let_go(run, wait_until, tmp_path):
    worker, engine, publish, _ = run
    for version in range(4):
        publish(version)
        wait_until(lambda version=version: len(engine.loads) > version and worker.copy.file is None, "the load", 100)
        loaded, total, file = engine.loads[-1]
        assert (loaded, total) == (version, 128 * version)
        assert file.parent.parent == tmp_path
    assert len({file for _, _, file in engine.loads}) == 2


def test_groups_are_sampled_while_a_version_is_fetched(run, wait_until, bus, monkeypatch):
    _, engine, publish, _ = run
    publish(0)
    wait_until(lambda: engine.loads, "the first version", 100)
    fetching, go_on = threading.Event(), threading.Event()
    written = NodeCopy.written

    def slowly(copy, target):
        fetching.set()
        assert go_on.wait(200)
        return written(copy, target)

    monkeypatch.setattr(NodeCopy, "written", slowly)
    publish(1)
    assert fetching.wait(200)
    bus.learner.ensure_groups()
    bus.learner.issue(a_ticket(1), a_ticket(2))
    wait_until(lambda: engine.sampled == 2, "two groups under the version before", 100)
    assert engine.version == 0
    go_on.set()
    wait_until(lambda: engine.version == 1, "the new version", 100)


def test_whoever_waits_for_its_neighbour_says_so(run, wait_until, bus, tmp_path):
    _, engine, publish, service = run
    neighbour = NodeCopy(bus.url, bus.run, worker="next-door", folder=tmp_path)
    with neighbour.turn(256):
        publish(0)
        wait_until(lambda: service.heartbeat().doing.kind is Activity.WAITING_FOR_READER, "the wait", 100)
        assert service.heartbeat().doing.worker == "next-door"
    wait_until(lambda: engine.loads, "the version", 100)
    neighbour.leave()


def test_a_node_without_room_is_refused_before_the_model_loads(bus, monkeypatch):
    WeightPublisher(bus.learner.weights, incarnation=1, transport="redis").publish(0, weights_of(0))
    monkeypatch.setattr(node_folder, "room_in", lambda _: 100)
    with pytest.raises(ConfigError, match=r"2 x 256 B = 512 B, and /dev/shm has 100 B free.*shm_size"):
        refuse_too_small(bus.rollout, compose(["tiny"], []), None)


def test_a_group_whose_environment_fails_is_tried_again_at_once_and_then_given_up_in_its_words(
    run, wait_until, bus, monkeypatch
):
    """The lease is a minute: only what is given back comes again in time."""
    _, engine, publish, _ = run
    sampled, tries = engine.generate, []

    def generate(ticket):
        tries.append(ticket.ticket)
        if ticket.ticket == 1 or tries.count(ticket.ticket) == 1:
            raise EnvironmentFailed(f"environment: the shelf fell on ticket {ticket.ticket}")
        return sampled(ticket)

    monkeypatch.setattr(engine, "generate", generate)
    publish(0)
    bus.learner.ensure_groups()
    bus.learner.issue(a_ticket(1), a_ticket(2))
    wait_until(lambda: engine.sampled == 1, "the second ticket's second try", 100)
    wait_until(lambda: bus.redis.xlen(bus.keys.dead_letters) == 1, "the letter", 100)
    ((_, letter),) = bus.redis.xrange(bus.keys.dead_letters)
    assert letter[b"kind"] == b"given_up"
    assert letter[b"reason"] == b"generation failed 3 times: environment: the shelf fell on ticket 1"
    assert (tries.count(1), tries.count(2)) == (3, 2)
    wait_until(lambda: bus.redis.xlen(bus.keys.prefix + WorkStream.PROMPTS) == 0, "the second ticket's hand-over")


@pytest.fixture
def ending_run(bus, tmp_path):
    """A worker that may end by itself; what its ``run`` raises is in the list."""
    config = compose(["tiny"], [f"weights.node_folder={str(tmp_path)!r}"])
    bus.learner.record.store_config(dump(config))
    publisher, engine, raised = WeightPublisher(bus.learner.weights, incarnation=1, transport="redis"), Engine(), []

    def work():
        try:
            RolloutWorker(bus.rollout, service, engine, config).run()
        except BaseException as error:
            raised.append(error)

    with Service(bus.rollout, "rollout", lease_s=60, heartbeat_s=60) as service:
        thread = threading.Thread(target=work)
        thread.start()
        publisher.publish(0, weights_of(0))
        yield engine, raised
        service.stopping.set()
        thread.join(100)
        assert not thread.is_alive()


def test_a_worker_that_may_not_run_its_environment_ends_and_uses_up_no_groups_attempts(
    ending_run, wait_until, bus, make_bus, monkeypatch
):
    """Its code was changed, for one. It would fail every group in no time, and others can generate them."""
    engine, raised = ending_run
    tries = []

    def generate(ticket):
        tries.append(ticket.ticket)
        raise ConfigError("the code of the environment here has the digest 1, the run was started with 2")

    monkeypatch.setattr(engine, "generate", generate)
    bus.learner.ensure_groups()
    bus.learner.issue(a_ticket(1), a_ticket(2))
    wait_until(lambda: raised, "the worker's end", 100)
    assert isinstance(raised[0], ConfigError)
    assert len(tries) == 1
    other, jobs = make_bus("other").rollout, []
    wait_until(lambda: jobs.extend(other.take(count=2, block_s=0, lease_s=60)) or len(jobs) == 2, "both groups", 100)
    assert [job.attempt for job in jobs] == [1, 1]
    assert bus.redis.xlen(bus.keys.dead_letters) == 0


def test_a_redis_that_is_away_at_the_hand_over_ends_the_worker_and_is_no_failure_of_the_group(
    bus, tmp_path, monkeypatch, caplog
):
    """Any other error costs the group an attempt."""
    config = compose(["tiny"], [f"weights.node_folder={str(tmp_path)!r}"])
    bus.learner.record.store_config(dump(config))
    WeightPublisher(bus.learner.weights, incarnation=1, transport="redis").publish(0, weights_of(0))
    bus.learner.issue(a_ticket())

    def away(*_, **__):
        raise redis.exceptions.TimeoutError("Timeout reading from socket")

    monkeypatch.setattr(bus.rollout, "hand_over_and_take", away)
    with (
        pytest.raises(redis.exceptions.TimeoutError),
        Service(bus.rollout, "rollout", lease_s=60, heartbeat_s=60) as service,
    ):
        RolloutWorker(bus.rollout, service, Engine(), config).run()
    assert not [record for record in caplog.records if "failed at attempt" in record.getMessage()]
