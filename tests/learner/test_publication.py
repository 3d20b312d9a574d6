"""Publishing beside the step: the same bytes from any number of ranks, in the order of the loop, in bounded memory."""

import hashlib
import json
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from leeway_rl.common.activity import Activity, Doing
from leeway_rl.common.config.serving import Weights
from leeway_rl.common.errors import DataError, RunExistsError
from leeway_rl.common.tensors import flatten
from leeway_rl.common.weights import Stamp
from leeway_rl.learner import disk_room
from leeway_rl.learner import leader as leader_of
from leeway_rl.learner.disk_room import DiskRoom
from leeway_rl.learner.leader import Leader
from leeway_rl.learner.publication import FlatBuffers, Publication
from two_ranks import on_ranks

SHAPES = {"b": (3, 2), "a": (5,)}


@pytest.mark.timeout(900)
def test_the_same_bytes_come_out_of_1_2_and_4_ranks_and_zero_0_and_3(model_path, tmp_path):
    for ranks in (1, 2, 4):
        on_ranks(ranks, "publish_on_ranks.py", model_path, tmp_path)
    found = {
        folder.name: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        for folder in tmp_path.iterdir()
    }
    assert len(found) == 6
    first = found["1-ranks-zero-0"]
    assert set(first) == {"weights-1-00000000.safetensors", "weights-1-00000001.delta"}
    assert all(files == first for files in found.values())


def test_versions_are_gathered_in_turns_beside_what_a_lag_holds():
    for lag in (0, 2):
        buffers = FlatBuffers(SHAPES, "bfloat16", lag)
        held = [buffers.at(version).buffer for version in range(lag + 2)]
        assert len({buffer.ctypes.data for buffer in held}) == lag + 2
        assert buffers.at(lag + 2).buffer is held[0]
        assert [info.name for info in buffers.at(0).infos] == ["a", "b"]


class Publisher:
    """Publishes when it is let."""

    def __init__(self, *errors: Exception) -> None:
        self.let, self.begun, self.errors = threading.Event(), threading.Event(), list(errors)

    def repair(self, unreadable):
        if self.errors:
            raise self.errors.pop(0)
        return unreadable is None

    def publish(self, version, weights):
        self.begun.set()
        assert self.let.wait(200)
        if self.errors:
            raise self.errors.pop(0)
        return SimpleNamespace(version=version, checksum=f"sum of {version}")


class Beside:
    """A service that notes what it is told."""

    def __init__(self) -> None:
        self.failure, self.stopping, self.said = None, threading.Event(), []

    def fail(self, error):
        self.failure = self.failure or error
        self.stopping.set()

    def doing(self, doing):
        self.said.append(doing)

    def hindered(self, doing):
        self.said.append(doing)


def publication(publisher, service, stands=lambda *_: None, folder=None):
    section = Weights(folder=None if folder is None else str(folder))
    return Publication(service, publisher, DiskRoom(service), section, stands)


def weights(version):
    return version, flatten({"w": torch.full((4,), float(version))}, "bfloat16")


def test_the_loop_goes_on_while_a_version_is_published_and_hears_when_it_stands():
    stood, publisher = [], Publisher()
    beside = publication(publisher, Beside(), stands=lambda *told: stood.append(told))
    beside.begin(weights(1), weights(1))
    assert publisher.begun.wait(200)
    assert not beside.ended(0.0)
    assert stood == []
    publisher.let.set()
    assert beside.ended(30)
    assert [(manifest.version, checksum) for manifest, checksum in stood] == [(1, "sum of 1")]


def test_with_a_lag_the_books_get_the_checksum_of_the_version_that_was_trained():
    stood, publisher = [], Publisher()
    publisher.let.set()
    beside = publication(publisher, Beside(), stands=lambda *told: stood.append(told))
    beside.begin(weights(1), weights(3))
    assert beside.ended(30)
    ((manifest, checksum),) = stood
    assert manifest.version == 1
    assert checksum not in ("sum of 1", "sum of 3")


def test_a_publication_that_fails_ends_the_loop_and_is_raised_there():
    service, publisher = Beside(), Publisher(ValueError("superseded"))
    beside = publication(publisher, service)
    beside.begin(weights(1), weights(1))
    publisher.let.set()
    with pytest.raises(ValueError, match="superseded"):
        beside.ended(30)
    assert service.stopping.is_set()
    assert isinstance(service.failure, ValueError)
    with pytest.raises(ValueError, match="superseded"):
        beside.ended(0)


def test_a_full_disk_is_waited_for_beside_the_step_without_a_word_to_the_other_ranks(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(disk_room, "is_full", lambda _: True)
    monkeypatch.setattr(disk_room, "RETRY_S", 0.01)
    monkeypatch.setattr(disk_room, "broadcast_plan", told.append)
    service, publisher = Beside(), Publisher(OSError(28, "No space left"), OSError(28, "No space left"))
    publisher.let.set()
    beside = publication(publisher, service, folder=tmp_path)
    beside.begin(weights(1), weights(1))
    assert beside.ended(30)
    waiting = Doing(Activity.WAITING_FOR_DISK, path=str(tmp_path))
    assert (told, service.said) == ([], [waiting, waiting, None])


def test_a_repair_of_the_weights_waits_for_a_full_disk_too(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_room, "is_full", lambda _: True)
    monkeypatch.setattr(disk_room, "RETRY_S", 0.01)
    service, publisher = Beside(), Publisher(OSError(28, "No space left"))
    beside = publication(publisher, service, folder=tmp_path)
    assert beside.repair(None)
    assert service.said == [Doing(Activity.WAITING_FOR_DISK, path=str(tmp_path)), None]
    assert not beside.repair(Stamp(1, 1))


def test_a_learner_that_is_to_stop_waits_for_no_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_room, "is_full", lambda _: True)
    service, publisher = Beside(), Publisher(OSError(28, "No space left"))
    publisher.let.set()
    service.stopping.set()
    beside = publication(publisher, service, folder=tmp_path)
    beside.begin(weights(1), weights(1))
    with pytest.raises(DataError, match=r"the disk under .* is full"):
        beside.ended(30)


@pytest.fixture
def leader(monkeypatch):
    """Rank 0 without anything but its threads beside the loop, and what it tells the other ranks."""
    told = []
    monkeypatch.setattr(leader_of, "broadcast_plan", told.append)
    monkeypatch.setattr(leader_of, "WAIT_S", 0.01)
    made = Leader.__new__(Leader)
    made.service = Beside()
    return made, told


@pytest.mark.parametrize("what", ["publication", "checkpoint"])
def test_the_other_ranks_are_told_to_wait_as_long_as_a_thread_beside_the_loop_works(leader, what):
    """They would give up on rank 0 after some hours, and a full disk may take longer."""
    made, told = leader
    answers = iter([False, False, True])
    ended = SimpleNamespace(ended=lambda timeout_s: next(answers))
    made.publication = made.writer = ended
    made.settle() if what == "publication" else made.await_writer()
    assert told == [{"do": "wait"}] * 2


def test_the_error_that_stopped_the_learner_is_raised_and_not_what_came_of_the_stop(leader, tmp_path, monkeypatch):
    made, told = leader
    monkeypatch.setattr(disk_room, "is_full", lambda _: True)
    publisher = Publisher(OSError(28, "No space left"))
    publisher.let.set()
    made.publication = publication(publisher, made.service, folder=tmp_path)
    made.service.fail(RunExistsError("another learner trains this run"))
    made.publication.begin(weights(1), weights(1))
    with pytest.raises(RunExistsError, match="another learner trains this run") as raised:
        made.settle()
    assert isinstance(raised.value.__cause__, DataError), "the full disk is not forgotten"
    (plan,) = [plan for plan in told if plan["do"] == "fail"]
    assert (plan["said"]["error"], plan["said"]["exit_code"]) == ("another learner trains this run", 5)


MEASURED = """
import json, sys, threading, time
from pathlib import Path
import torch
from leeway_rl.common.tensors import tensors_of
from leeway_rl.common.weights import WeightPublisher
from leeway_rl.learner.leader import Leader
from leeway_rl.learner.publication import FlatBuffers

torch.set_num_threads(1)
folder, parameters = Path(sys.argv[1]), int(sys.argv[2])

def used():
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * sum(int(status[name].split()[0]) for name in ("RssAnon", "RssShmem"))

class Stream:
    found = []
    def manifests(self): return list(self.found)
    def publish_manifest(self, manifest): self.found.append(manifest)
    def leased_versions(self): return set()
    def delete_version(self, manifest): self.found.remove(manifest)

random = torch.Generator().manual_seed(0)
model = torch.randn(parameters, generator=random)
publisher = WeightPublisher(Stream(), incarnation=1, transport="file", folder=folder, threads=2, keyframe_every=2)
buffers = FlatBuffers({"w": (parameters,)}, "bfloat16", 0)
before, most = used(), 0

def watch():
    global most
    while True:
        most = max(most, used())
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
for version in range(4):
    weights = buffers.at(version)
    tensors_of(weights)["w"].copy_(model)
    publisher.publish(version, weights)
    model[version::50] *= 1.01
print(json.dumps([most - before, before]))
"""


def test_rank_0_needs_at_most_four_and_a_half_bytes_a_parameter_beside_the_model(tmp_path):
    """Two bfloat16 buffers are 4 bytes; what is encoded at a time is the rest, and does not grow with the model."""
    parameters = 120_000_000
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path, str(parameters)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    most, before = json.loads(done.stdout)
    assert before >= 4 * parameters, "the model is counted before"
    assert 4 * parameters <= most <= 4.5 * parameters, f"{most / parameters:.2f} bytes a parameter"
