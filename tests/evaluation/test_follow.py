"""Following a run: which versions are due, what is read of them, and what a killed follower left."""

import json

import numpy as np
import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.service import Service
from leeway_rl.common.types import TensorInfo
from leeway_rl.common.weights import FlatWeights, Stamp, WeightPublisher
from leeway_rl.evaluation.follow import DueVersions, Reader, folder_of, lines_of, resume

CONFIG = compose(["tiny"], ["train.steps=60"])


def due_of(versions, *stamps):
    """The stamps that are due, each taken at once."""
    found = []
    for stamp in stamps:
        if versions.due(Stamp(*stamp)):
            versions.take(Stamp(*stamp))
            found.append(stamp)
    return found


def versions(incarnation, *numbers):
    return [(incarnation, number) for number in numbers]


def test_the_first_version_seen_then_one_in_every_so_many_then_the_last():
    assert due_of(DueVersions(20, 50), *versions(1, *range(51))) == versions(1, 0, 20, 40, 50)
    assert due_of(DueVersions(20, 50), *versions(1, 7, 8, 19, 23, 24, 39, 41, 50)) == versions(1, 7, 23, 41, 50)
    assert due_of(DueVersions(1, 3), *versions(1, 0, 0, 1, 1, 3)) == versions(1, 0, 1, 3)


def test_after_a_rollback_what_is_made_again_is_evaluated_again():
    stamps = [*versions(1, 0, 20, 39), *versions(2, 15, 16, 20, 21, 40)]
    assert due_of(DueVersions(20, 60), *stamps) == [*versions(1, 0, 20), *versions(2, 20, 40)]
    # The checkpoint itself is at a version that is due: its weights are the ones that go on.
    assert due_of(DueVersions(20, 60), *versions(1, 0, 20, 35), *versions(2, 20, 21, 40)) == [
        *versions(1, 0, 20),
        *versions(2, 20, 40),
    ]


def flat(number):
    return FlatWeights((TensorInfo(name="w", dtype="float32", shape=(4,)),), np.full(16, number, np.uint8))


@pytest.fixture
def reading(make_bus, wait_until):
    """A function that starts a reader of the run; readers end with the test."""
    started = []

    def start(every, versions=None):
        bus = make_bus("follower")
        service = Service(bus.learner, "collector", lease_s=30.0, heartbeat_s=2.0)
        reader = Reader(bus, CONFIG, versions or DueVersions(every, CONFIG.train.steps), service)
        started.append((service, reader))
        return reader

    yield start
    for service, reader in started:
        service.stopping.set()
        wait_until(lambda reader=reader: reader.over, "the reader ends", 100)
        assert service.failure is None


def test_the_reader_hands_over_due_versions_and_sees_the_end(make_bus, reading, wait_until):
    publisher = WeightPublisher(make_bus("learner").weights, incarnation=1, transport="redis")
    publisher.publish(0, flat(0))
    reader = reading(20)
    stamp, weights = reader.next()
    assert (stamp, weights.buffer[0]) == (Stamp(1, 0), 0)
    for version in (19, 21):
        publisher.publish(version, flat(version))
    stamp, weights = reader.next()
    assert stamp.version == 21
    assert weights.buffer[0] == 21
    publisher.publish(60, flat(60))
    assert reader.next()[0].version == 60
    assert reader.next() is None
    assert reader.over


def test_of_two_versions_that_are_due_the_newer_counts(make_bus, reading, wait_until):
    publisher = WeightPublisher(make_bus("learner").weights, incarnation=1, transport="redis")
    publisher.publish(0, flat(0))
    versions = DueVersions(10, CONFIG.train.steps)
    reader = reading(10, versions)
    wait_until(lambda: versions.taken == Stamp(1, 0), "version 0 is read")
    publisher.publish(10, flat(10))
    wait_until(lambda: versions.taken == Stamp(1, 10), "version 10 is read")
    assert reader.next()[1].buffer[0] == 10


def test_a_run_that_ends_before_its_last_step_ends_the_reader(make_bus, reading):
    bus = make_bus("learner")
    WeightPublisher(bus.weights, incarnation=1, transport="redis").publish(0, flat(0))
    reader = reading(10)
    assert reader.next()[0].version == 0
    bus.record.set_state(phase="stopped")
    assert reader.next() is None


def result(out, version, incarnation, value):
    folder = folder_of(out, Stamp(incarnation, version))
    folder.mkdir(parents=True)
    estimate = {"value": value, "low": value, "high": value}
    sums = {"n": 4, "problems": 3, "avg_at_n": estimate, "by_problem": {}}
    text = json.dumps({"version": version, "incarnation": incarnation, "benchmarks": {"sums": sums}})
    (folder / "eval.json").write_text(text)


def test_a_version_that_was_made_twice_has_its_last_result(tmp_path):
    result(tmp_path, 20, 1, 0.2)
    result(tmp_path, 20, 10, 0.4)
    result(tmp_path, 0, 1, 0.1)
    lines = lines_of(tmp_path)
    assert [(line["version"], line["incarnation"], line["avg_at_n"]["value"]) for line in lines] == [
        (0, 1, 0.1),
        (20, 10, 0.4),
    ]


def test_a_follower_goes_on_with_the_version_under_way_if_its_weights_are_there(bus, tmp_path):
    result(tmp_path, 0, 1, 0.1)
    folder_of(tmp_path, Stamp(1, 20)).mkdir()
    WeightPublisher(bus.weights, incarnation=1, transport="redis").publish(20, flat(20))
    versions = DueVersions(20, 60)
    assert resume(bus, tmp_path, versions) == (Stamp(1, 20), None)
    assert not versions.due(Stamp(1, 39))
    assert versions.due(Stamp(1, 40))
    assert (tmp_path / "evaluations.jsonl").read_text().count("\n") == 1


def test_half_a_version_whose_weights_are_gone_is_forgotten(bus, tmp_path):
    result(tmp_path, 0, 1, 0.1)
    folder_of(tmp_path, Stamp(1, 20)).mkdir()
    versions = DueVersions(20, 60)
    assert resume(bus, tmp_path, versions) is None
    assert not folder_of(tmp_path, Stamp(1, 20)).exists()
    assert versions.due(Stamp(1, 20))
