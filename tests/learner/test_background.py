"""A checkpoint written beside the steps has what was there when it was taken, and counts only once it is whole."""

import json
import threading
from types import SimpleNamespace

import pytest
import torch
from leeway_rl.common.activity import Activity
from leeway_rl.common.config import compose
from leeway_rl.learner import checkpoint, disk_room
from leeway_rl.learner.background import CheckpointWriter
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.ranks import NoRoom
from train_on_ranks import config_of, run

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("stage", "offload"),
    [(0, "none"), (1, "none"), (2, "none"), (3, "none"), (2, "optimizer"), (3, "optimizer+parameters")],
)
def test_a_snapshot_makes_the_files_of_its_own_step_while_training_goes_on(model_path, tmp_path, stage, offload):
    config = config_of(model_path, stage, offload)
    policy = Policy(config)
    run(policy, config, range(2), ControllerState())
    at_once = checkpoint.save(policy, tmp_path / "at-once", 2, {}, keep=1)
    snapshot = checkpoint.take(policy, 2, copied=True)
    run(policy, config, range(2, 3), ControllerState())
    later = checkpoint.write(snapshot, tmp_path / "later", {}, keep=1)
    assert later.name == at_once.name
    assert made(later)["sums"] == made(at_once)["sums"]
    files = [path.relative_to(at_once) for path in at_once.rglob("*.pt")]
    assert files
    for file in files:
        assert same(read(later / file), read(at_once / file)), file
        assert (later / file).stat().st_size == pytest.approx((at_once / file).stat().st_size, abs=512)
    moved = checkpoint.save(policy, tmp_path / "moved", 2, {}, keep=1)
    assert not all(same(read(moved / file), read(at_once / file)) for file in files)


def made(path):
    return json.loads((path / checkpoint.COMPLETE).read_text())


def read(path):
    return torch.load(path, map_location="cpu", weights_only=False)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (type(one) is type(other) and hasattr(one, "__dict__") and same(vars(one), vars(other)))


class Weight:
    """A policy of one number, whose snapshot is always a copy."""

    rank, world, stage = 0, 1, 0
    config = compose(["tiny"], [])
    value = 0

    def sums(self):
        return {"steps": [], "differ": []}

    def snapshot(self, *, copied):
        value = self.value

        def write(folder):
            (folder / "weight").write_text(str(value))
            return [folder / "weight"]

        return write


class Service:
    """What a writer says of itself."""

    def __init__(self):
        self.stopping, self.failure, self.shown = threading.Event(), None, []

    def doing(self, doing):
        pass

    def hindered(self, doing):
        self.shown.append(doing and doing.kind)

    def fail(self, error):
        self.failure = error
        self.stopping.set()


@pytest.fixture
def written(tmp_path):
    """A writer, its policy, its service, and where it writes."""
    train = compose(["tiny"], ["train.keep_checkpoints=1"]).train
    policy, service = Weight(), Service()
    writer = CheckpointWriter(policy, service, tmp_path, train)
    yield SimpleNamespace(writer=writer, policy=policy, service=service, folder=tmp_path, train=train)
    writer.close()


def weight_of(folder):
    return (checkpoint.newest(folder) / "weight").read_text()


def test_a_checkpoint_that_somebody_still_reads_stays_until_they_are_done(written):
    in_use = [checkpoint.path_of(written.folder, 1)]
    writer = CheckpointWriter(written.policy, written.service, written.folder, written.train, lambda: in_use)
    for step in (1, 2, 3):
        writer.save(step)
        writer.wait()
    assert [checkpoint.step_of(path) for path in checkpoint.complete(written.folder)] == [3, 1]
    in_use.clear()
    writer.save(4)
    writer.wait()
    assert [checkpoint.step_of(path) for path in checkpoint.complete(written.folder)] == [4]


def test_nothing_counts_before_the_checkpoint_is_whole(written):
    go_on, books = threading.Event(), []
    written.writer.save(1, {"step": 1}, lambda _: go_on.wait(200), lambda: books.append(1))
    written.policy.value = 7  # the next step has been made
    assert (checkpoint.newest(written.folder), books) == (None, [])
    go_on.set()
    written.writer.wait()
    assert (weight_of(written.folder), books) == ("0", [1])


def test_a_checkpoint_that_comes_due_meanwhile_waits_and_none_is_skipped(written):
    go_on, order = threading.Event(), []
    written.writer.save(1, {}, lambda _: go_on.wait(200), lambda: order.append(1))
    written.policy.value = 2
    second = threading.Thread(target=written.writer.save, args=(2,), kwargs={"then": lambda: order.append(2)})
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert order == []
    go_on.set()
    second.join(100)
    written.writer.wait()
    assert (order, weight_of(written.folder)) == ([1, 2], "2")


def test_an_error_ends_the_learner_with_its_own_words_and_leaves_the_checkpoint_before(written):
    written.writer.save(1)
    written.writer.wait()

    def fail(_):
        raise OSError("the disk is gone")

    written.writer.save(2, {}, fail, then=lambda: pytest.fail("it does not count"))
    with pytest.raises(OSError, match="the disk is gone"):
        written.writer.wait()
    assert str(written.service.failure) == "the disk is gone"
    assert written.service.stopping.is_set()
    assert checkpoint.newest(written.folder) == written.folder / "step-000001"


def test_a_full_disk_is_waited_for_and_shown_meanwhile(written, monkeypatch):
    monkeypatch.setattr(disk_room, "RETRY_S", 0.01)
    tries = []

    def full_twice(_):
        tries.append(checkpoint.newest(written.folder))
        if len(tries) < 3:
            raise NoRoom("no room")

    written.writer.save(1, {}, full_twice)
    written.writer.wait()
    assert tries == [None] * 3
    waiting = Activity.WAITING_FOR_DISK
    assert written.service.shown == [waiting, waiting, None]
    assert checkpoint.newest(written.folder) == written.folder / "step-000001"


def test_a_learner_that_ends_does_not_wait_for_room(written, monkeypatch):
    monkeypatch.setattr(disk_room, "RETRY_S", 60.0)
    tried = threading.Event()

    def full(_):
        tried.set()
        raise NoRoom("no room")

    written.writer.save(1, {}, full)
    assert tried.wait(200)
    written.writer.close()
    assert "is full" in str(written.service.failure)


def test_without_the_key_the_step_waits_and_nothing_is_copied(written, monkeypatch):
    asked = []

    def snapshot(*, copied):
        asked.append(copied)
        return lambda _: []

    monkeypatch.setattr(written.policy, "snapshot", snapshot)
    train = written.train.model_copy(update={"async_checkpoint": False})
    writer = CheckpointWriter(written.policy, written.service, written.folder, train)
    thread = []
    writer.save(1, then=lambda: thread.append(threading.current_thread()))
    assert (asked, thread) == ([False], [threading.current_thread()])
