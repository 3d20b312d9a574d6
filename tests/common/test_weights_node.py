"""The copy of the weights that the workers of a node share: one decodes, whoever is killed is succeeded, nothing tears,
and nobody else's copy is read."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from leeway_rl.common.activity import Activity
from leeway_rl.common.errors import ConfigError, WeightsError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.weights import WeightStream, values_of_version
from leeway_rl.common.types import TensorInfo
from leeway_rl.common.weights import FlatWeights, NodeCopy, Stamp, WeightPublisher, WeightReader, node, node_folder
from leeway_rl.common.weights.node import TurnLostError, state_of

INFOS = (TensorInfo(name="a", dtype="bfloat16", shape=(70, 30)), TensorInfo(name="b", dtype="bfloat16", shape=(5,)))
BYTES = 2 * (70 * 30 + 5)


def weights_of(seed: int) -> FlatWeights:
    items = np.random.default_rng(0).integers(0, 2**16, BYTES // 2, np.uint16)
    items[:seed] ^= np.uint16(1)
    return FlatWeights(INFOS, items.view(np.uint8))


class Node:
    """One node's workers, in threads of this process, and the learner that they follow."""

    def __init__(self, stream: WeightStream, folder: Path) -> None:
        self.stream, self.folder = stream, folder
        self.copies: list[NodeCopy] = []
        self.publisher = WeightPublisher(stream, incarnation=1, transport="redis", keyframe_every=100)

    def worker(self, name: str = "w", **options) -> tuple[NodeCopy, WeightReader]:
        copy = NodeCopy("redis://u:secret@here:1/0", "run", worker=name, **{"folder": self.folder} | options)
        self.copies.append(copy)
        return copy, WeightReader(self.stream, worker=name, retry_pause_s=0.0, copy=copy)

    def publish(self, version: int) -> None:
        self.publisher.publish(version, weights_of(version))


@pytest.fixture
def here(redis_url, tmp_path, request):
    connection = Connection(redis_url, f"node-{time.monotonic_ns()}")
    found = Node(WeightStream(connection), tmp_path)
    yield found
    for copy in found.copies:
        copy.leave()
    connection.close()


def same(weights: FlatWeights, version: int) -> bool:
    return bool(np.array_equal(weights.buffer, weights_of(version).buffer))


def test_a_version_is_decoded_once_for_all_workers_of_a_node(here, monkeypatch):
    decoded = []
    written = NodeCopy.written
    monkeypatch.setattr(NodeCopy, "written", lambda copy, target: decoded.append(target) or written(copy, target))
    workers = [here.worker(f"w{number}") for number in range(3)]
    for version in range(4):
        here.publish(version)
        found = []

        def take(copy, reader, found=found, version=version):
            got, weights = reader.fetch()
            found.append((got, same(weights, version), copy.file))
            copy.let_go()

        threads = [threading.Thread(target=take, args=worker) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert [each[:2] for each in found] == [(version, True)] * 3
        assert len({each[2] for each in found}) == 1
        assert len(decoded) == version + 1
    assert len(list(here.copies[0].path.glob("*.safetensors"))) == 2


def test_a_buffer_is_a_safetensors_file(here):
    here.publish(0)
    copy, reader = here.worker()
    reader.fetch()
    with safetensors.safe_open(copy.file, framework="pt") as file:
        assert {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()} == {"a": (70, 30), "b": (5,)}  # noqa: SIM118
        held = b"".join(file.get_tensor(name).view(dtype=__import__("torch").uint8).numpy().tobytes() for name in "ab")
    assert held == weights_of(0).buffer.tobytes()


def test_a_worker_that_comes_later_takes_what_the_node_has_and_follows_by_deltas(here):
    here.publish(0)
    here.worker("first")[1].fetch()
    for copy in here.copies:
        copy.let_go()
    keyframe = here.stream.manifests()[0]
    here.publish(1)
    for name in values_of_version(keyframe):  # nobody can read it any more
        assert here.stream.connection.redis.delete(here.stream.keys.weight_value(0, 1, name)) == 1
    version, weights = here.worker("late")[1].fetch()
    assert (version, same(weights, 1)) == (1, True)


def test_what_a_neighbour_loads_from_is_not_written(here):
    told = [None]
    (slow, slow_reader), (_, quick) = here.worker("slow"), here.worker("quick", waits=told.append, patience_s=60)
    here.publish(0)
    _, held = slow_reader.fetch()
    here.publish(1)
    quick.fetch()
    here.publish(2)
    reading = threading.Thread(target=quick.fetch)
    reading.start()
    while told[-1] is None:
        time.sleep(0.01)
    assert same(held, 0)
    assert reading.is_alive()
    assert told[-1].kind is Activity.WAITING_FOR_NEIGHBOUR
    assert told[-1].worker == f"process {os.getpid()}"
    slow.let_go()
    reading.join(100)
    assert told[-1] is None
    assert quick.stamp == Stamp(1, 2)


def test_a_neighbour_that_never_lets_go_keeps_its_file_and_another_takes_its_place(here):
    (slow, slow_reader), (quick, reader) = here.worker("slow"), here.worker("quick", patience_s=0.1)
    here.publish(0)
    _, held = slow_reader.fetch()
    file = slow.file
    for version in (1, 2, 3):
        here.publish(version)
        assert same(reader.fetch()[1], version)
    assert same(held, 0)
    assert not file.exists()  # whoever opens it by name finds nothing, and not another version
    slow.let_go()
    assert len(list(quick.path.glob("*.safetensors"))) == 2


def test_a_worker_without_progress_loses_its_turn_and_notices(here):
    (stuck, _), (_, reader) = here.worker("stuck"), here.worker("quick", patience_s=0.1)
    here.publish(0)
    target = here.stream.manifests()[0]

    def decode():
        with stuck.turn(BYTES), stuck.written(target) as buffer:
            assert same(reader.fetch()[1], 0)
            buffer[:] = 255  # it goes on, and writes into what is its own alone

    with pytest.raises(TurnLostError):
        decode()
    assert same(reader.fetch()[1], 0)


DECODER = """
import sys, time
from contextlib import contextmanager
from pathlib import Path
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.weights import WeightStream
from leeway_rl.common.weights import NodeCopy, WeightReader

class Copy(NodeCopy):
    @contextmanager
    def written(self, target):
        with super().written(target) as buffer:
            yield buffer
            if hang:  # all is decoded, and not yet noted
                print("decoded", flush=True)
                time.sleep(600)

url, run, folder, hang = sys.argv[1:]
copy = Copy("redis://u:secret@here:1/0", "run", worker="killed", folder=Path(folder))
print(WeightReader(WeightStream(Connection(url, run)), worker="killed", copy=copy).fetch()[0], flush=True)
sys.stdin.read()
copy.leave()
"""


@pytest.fixture
def decoder(here, redis_url):
    started = []

    def start(hang: str = "") -> subprocess.Popen[str]:
        words = [sys.executable, "-c", DECODER, redis_url, here.stream.connection.run, str(here.folder), hang]
        started.append(subprocess.Popen(words, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_worker_killed_in_the_middle_of_decoding_is_succeeded_and_its_buffer_is_not_taken(here, decoder):
    here.publish(0)
    first = decoder("hang")
    assert first.stdout.readline() == "decoded\n"
    (folder,) = here.folder.iterdir()
    assert state_of(folder) == []
    told = [None]
    _, reader = here.worker("successor", waits=told.append)
    found = []
    waiting = threading.Thread(target=lambda: found.append(reader.fetch()))
    waiting.start()
    while told[-1] is None:
        time.sleep(0.01)
    assert (told[-1].kind, told[-1].worker) == (Activity.WAITING_FOR_READER, "killed")
    first.send_signal(signal.SIGKILL)
    waiting.join(100)
    assert same(found[0][1], 0)
    assert [whole.stamp for whole in state_of(folder)] == [(1, 0)]


def test_a_flipped_bit_in_the_nodes_copy_is_found_by_the_next_version(here):
    copy, reader = here.worker()
    here.publish(0)
    reader.fetch()
    damaged = bytearray(copy.file.read_bytes())
    damaged[-3] ^= 1
    copy.file.write_bytes(damaged)
    here.publish(1)
    assert same(reader.fetch()[1], 1)


def test_the_last_worker_that_leaves_takes_the_copy_with_it(here):
    here.publish(0)
    (first, _), (second, _) = workers = [here.worker("first"), here.worker("second")]
    for _, reader in workers:
        reader.fetch()
    folder = first.path
    assert node_folder.members_of(folder) == 2
    first.leave()
    assert node_folder.members_of(folder) == 1
    second.leave()
    assert list(here.folder.iterdir()) == []


def test_the_copy_of_a_killed_run_is_swept_by_whoever_comes_next_and_that_of_a_living_one_stays(here, decoder):
    here.publish(0)
    process = decoder()
    assert process.stdout.readline() == "0\n"
    (left,) = here.folder.iterdir()
    other = NodeCopy("redis://other:1/0", "run", worker="w", folder=here.folder)
    other.join(BYTES)
    assert left.exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert node_folder.sweep(here.folder) == [left]
    assert list(here.folder.iterdir()) == [other.path]
    other.leave()


def test_a_worker_that_starts_again_after_a_kill_finds_the_version_where_it_was(here, decoder, monkeypatch):
    here.publish(0)
    process = decoder()
    assert process.stdout.readline() == "0\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    monkeypatch.setattr(NodeCopy, "written", None)
    copy, reader = here.worker()
    assert same(reader.fetch()[1], 0)
    assert list(here.folder.iterdir()) == [copy.path]


def test_a_copy_that_somebody_removed_is_made_again(here):
    here.publish(0)
    copy, reader = here.worker()
    reader.fetch()
    shutil.rmtree(copy.path)
    here.publish(1)
    assert same(reader.fetch()[1], 1)
    assert node_folder.members_of(copy.path) == 1


def test_the_folder_is_of_one_user_run_and_redis_whatever_the_password(monkeypatch):
    def name(url="redis://u:secret@h:1/0", run="r"):
        return node_folder.name_of(url, run)

    assert name() == name("redis://v:other@h:1/0")
    assert len({name(), name(run="s"), name("redis://h:2/0"), name("redis://h:1/1"), name("redis://g:1/0")}) == 5
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "12345" in name()


def test_another_users_folder_or_a_link_to_one_is_refused(here, tmp_path):
    copy, reader = here.worker()
    here.publish(0)
    path = here.folder / node_folder.name_of("redis://here:1/0", "run")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    path.symlink_to(elsewhere)
    with pytest.raises(WeightsError, match="not a folder of this user alone"):
        reader.fetch()
    path.unlink()
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    with pytest.raises(WeightsError, match="mode 0700"):
        reader.fetch()
    path.chmod(0o700)
    reader.fetch()
    assert copy.path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in copy.path.glob("*.safetensors")} == {0o600}


def test_a_link_in_place_of_a_buffer_is_not_followed(here, tmp_path):
    copy, reader = here.worker()
    copy.join(BYTES)
    target = tmp_path / "precious"
    target.write_text("precious")
    (copy.path / "1.safetensors").symlink_to(target)
    here.publish(0)
    with pytest.raises(WeightsError, match=r"1\.safetensors"):
        reader.fetch()
    assert target.read_text() == "precious"


def test_a_node_without_the_room_is_refused_with_the_sum_and_what_to_do(here, monkeypatch):
    monkeypatch.setattr(node_folder, "room_in", lambda _: BYTES)
    here.publish(0)
    with pytest.raises(ConfigError, match=r"2 x 4\.2 kB = 8\.4 kB, and .* has 4\.2 kB free; .*shm_size.*node_folder"):
        here.worker()[1].fetch()


def test_where_shared_memory_is_too_small_the_temporary_folder_is_used_and_said(tmp_path, monkeypatch, caplog):
    shared, other = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    other.mkdir()
    monkeypatch.setattr(node_folder, "SHARED_MEMORY", shared)
    monkeypatch.setattr(node_folder.tempfile, "gettempdir", lambda: str(other))
    monkeypatch.setattr(node_folder, "room_in", lambda base: 0 if base == shared else 1 << 30)
    assert node_folder.place("name", 1000, None) == other / "name"
    assert "shm has - free" in caplog.text
    assert "shm_size" in caplog.text
    monkeypatch.setattr(node_folder, "room_in", lambda _: 1 << 30)
    assert node_folder.place("name", 1000, None) == shared / "name"
    neighbour = node_folder.NodeFolder(other / "name")  # it found no room in shared memory
    assert node_folder.place("name", 1000, None) == other / "name"
    neighbour.leave()


def test_room_that_is_gone_in_the_meantime_is_an_error_and_no_crash(here, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(node.os, "posix_fallocate", full)
    here.publish(0)
    with pytest.raises(WeightsError, match=r"no room for a version of .* No space left"):
        here.worker()[1].fetch()


FOLLOWER = """
import json, sys, threading, time
from pathlib import Path
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.weights import WeightStream
from leeway_rl.common.weights import NodeCopy, WeightReader

def own_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])

most, decoded = 0, 0

def watch():
    global most
    while True:
        most = max(most, own_bytes())
        time.sleep(0.002)

class Watched(NodeCopy):
    def written(self, target):
        global decoded
        decoded += 1
        return super().written(target)

url, run, folder = sys.argv[1:]
stream = WeightStream(Connection(url, run))
copy = Watched("redis://here:1/0", "run", worker="w", folder=Path(folder))
reader = WeightReader(stream, worker="w", copy=copy, threads=2)
stream.manifests()
before = own_bytes()
threading.Thread(target=watch, daemon=True).start()
print("ready", flush=True)
for _ in sys.stdin:
    version, weights = reader.fetch()
    first = int(weights.buffer[:: 4096].sum())
    most = max(most, own_bytes())
    copy.let_go()
    print(json.dumps([version, decoded, most - before, first]), flush=True)
copy.leave()
"""


def test_a_node_of_three_workers_holds_at_most_four_and_a_half_bytes_a_parameter_and_decodes_once(here, redis_url):
    """Two bfloat16 buffers are 4 bytes; what three workers use to read and decode is the rest."""
    parameters = 120_000_000
    infos = (TensorInfo(name="w", dtype="bfloat16", shape=(parameters,)),)
    buffer = np.random.default_rng(0).integers(0, 256, 2 * parameters, np.uint8)
    publisher = WeightPublisher(here.stream, incarnation=1, transport="redis", shard_bytes=1 << 24, threads=2)
    words = [sys.executable, "-c", FOLLOWER, redis_url, here.stream.connection.run, str(here.folder)]
    followers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) for _ in range(3)
    ]
    try:
        for each in followers:
            assert each.stdout.readline() == "ready\n"
        for version in range(3):
            buffer = buffer.copy()
            buffer[version::1000] ^= 1
            publisher.publish(version, FlatWeights(infos, buffer))
            for each in followers:
                each.stdin.write("next\n")
            told = [json.loads(each.stdout.readline()) for each in followers]
            assert [(each[0], each[3]) for each in told] == [(version, int(buffer[::4096].sum()))] * 3
            assert sum(each[1] for each in told) == version + 1
        (folder,) = here.folder.iterdir()
        shared = sum(512 * file.stat().st_blocks for file in folder.iterdir())
        own = sum(each[2] for each in told)
        assert shared >= 4 * parameters
        assert shared + own <= 4.5 * parameters, f"{shared:,} shared and {own:,} of their own"
    finally:
        for each in followers:
            each.communicate()
    assert list(here.folder.iterdir()) == []


def test_whoever_is_told_to_stop_waits_no_longer_and_calls_no_version_unreadable(here):
    def stop(neighbour):
        if neighbour is not None:
            raise TurnLostError("asked to stop")

    (slow, slow_reader), (_, quick), (_, other) = (
        here.worker("slow"),
        here.worker("quick", waits=stop),
        here.worker("other"),
    )
    here.publish(0)
    slow_reader.fetch()
    with slow.turn(BYTES), pytest.raises(TurnLostError, match="asked to stop"):
        quick.fetch()
    here.publish(1)
    other.fetch()
    here.publish(2)
    with pytest.raises(TurnLostError, match="asked to stop"):
        quick.fetch()
    assert here.stream.connection.redis.get(here.stream.keys.unreadable) is None
    slow.let_go()
    assert same(quick.fetch()[1], 2)
