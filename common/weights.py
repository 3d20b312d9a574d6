"""Versions of the weights from the learner to every rollout worker: published whole, fetched by delta, checked.

A version travels as a payload and a manifest. The payload is written first and the manifest announces it, so a reader
sees a version whole or not at all; and the manifest carries the checksum of the flat weights, so a reader that gets
other bytes, for whatever reason, knows it and never serves them. Payloads are keyframes (a whole version) or deltas
against the version published before. A *stamp* (incarnation, version) names a version for good: after a rollback
the same version number may stand for other weights.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from .delta import decode_pieces, encode_pieces
from .errors import ConfigError, WeightsError
from .queue.weights import WeightStream
from .types import Manifest, TensorInfo

CHUNK_BYTES = 64 * 1024 * 1024
DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Width in bytes of every dtype that can be published."""

_SAFETENSORS_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
_IO_BYTES = 16 * 1024 * 1024
_FETCH_ATTEMPTS = 4
_REWRITES = 3  # of one version, for readers that cannot read it: one on a broken machine must not keep us at it


class Stamp(NamedTuple):
    """What identifies a version. Ordered: a newer incarnation comes after every version of an older one."""

    incarnation: int
    version: int


NOTHING = Stamp(-1, -1)
"""The stamp where no version is held or published."""


@dataclass(frozen=True, slots=True)
class FlatWeights:
    """All tensors of one version, one after the other in one buffer."""

    infos: tuple[TensorInfo, ...]
    """In the order of their bytes."""
    buffer: np.ndarray
    """uint8, shape [bytes], little-endian items. Publisher and reader keep it as the base of the next delta: do not
    write into it."""

    def __post_init__(self) -> None:
        assert self.buffer.dtype == np.uint8
        assert self.buffer.shape == (flat_bytes(self.infos),)


def stamp_of(manifest: Manifest) -> Stamp:
    return Stamp(manifest.incarnation, manifest.version)


def flat_bytes(infos: Iterable[TensorInfo]) -> int:
    """Bytes of the flat buffer; raises ``WeightsError`` for a dtype that cannot be published."""
    return sum(_dtype_bytes(info) * prod(info.shape) for info in infos)


def checksum(buffer: np.ndarray, tick: Callable[[], None] = lambda: None) -> str:
    """sha256 (hex) of a flat uint8 buffer; ``tick`` is called every few megabytes."""
    digest = hashlib.sha256()
    for start in range(0, len(buffer), _IO_BYTES):
        digest.update(buffer[start : start + _IO_BYTES].data)
        tick()
    return digest.hexdigest()


def chain_to(target: Manifest, manifests: Iterable[Manifest], held: Stamp = NOTHING) -> list[Manifest] | None:
    """The manifests to apply one after the other to arrive at ``target``.

    The first is a keyframe, or a delta whose base is ``held``; ``None`` where a link is missing.
    """
    by_stamp = {stamp_of(manifest): manifest for manifest in manifests}
    chain = [target]
    while (base := chain[-1].base) is not None:
        stamp = Stamp(target.incarnation, base)
        if stamp == held:
            break
        # A base is older than its delta; a manifest that says otherwise could send us round in circles.
        if stamp not in by_stamp or base >= chain[-1].version:
            return None
        chain.append(by_stamp[stamp])
    return chain[::-1]


def needed(manifests: Iterable[Manifest], leased: Iterable[int], keep: int) -> set[Stamp]:
    """What must stay: the ``keep`` newest versions of the newest incarnation and every leased one, with their chains.

    A chain runs back to its keyframe: a reader that joins late starts there.
    """
    manifests = list(manifests)
    if not manifests:
        return set()
    leased = set(leased)
    incarnation = max(manifest.incarnation for manifest in manifests)
    newest = sorted({stamp_of(m) for m in manifests if m.incarnation == incarnation})[-keep:]
    # A lease names a version without its incarnation, so it protects that version of each.
    roots = [m for m in manifests if m.version in leased or stamp_of(m) in newest]
    return {stamp_of(link) for root in roots for link in chain_to(root, manifests) or [root]}


class WeightPublisher:
    """The learner's end. One at a time: a publisher that sees a newer incarnation's manifest refuses to go on."""

    def __init__(
        self,
        stream: WeightStream,
        *,
        incarnation: int,
        transport: str,
        folder: Path | None = None,
        keyframe_every: int = 20,
        keep: int = 2,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """``transport`` is ``redis`` or ``file``; ``file`` needs ``folder``, a directory of this run alone which all
        workers can read. Every ``keyframe_every``-th version is stored whole. The ``keep`` newest versions (at least
        1) always stay readable: at 2 a reader that has just chosen the last version finds it when the next comes.
        """
        assert min(keyframe_every, keep, chunk_bytes) >= 1
        self._stream = stream
        self._incarnation = incarnation
        self._keyframe_every = keyframe_every
        self._keep = keep
        self._store = _store(transport, stream, folder, chunk_bytes)
        self._last: tuple[Manifest, FlatWeights] | None = None
        self._since_keyframe = 0
        self._rewritten = 0
        self._lock = threading.Lock()  # ``repair`` may come from another thread
        if isinstance(self._store, _FileStore):
            self._store.sweep(incarnation, {stamp_of(manifest) for manifest in stream.manifests()})

    def publish(self, version: int, weights: FlatWeights) -> Manifest:
        """Stores ``weights``, announces them, deletes what nobody needs; returns the manifest.

        Versions rise. Publishing the last one again, with the same weights, is harmless and repairs: where its
        manifest has left the stream (Redis came back empty), a keyframe is written. Raises ``WeightsError`` when a
        newer incarnation has taken over. Keeps ``weights.buffer`` until the next call.
        """
        with self._lock:
            return self._publish(version, weights, checksum(weights.buffer))

    def repair(self, unreadable: Stamp | None = None) -> bool:
        """Publish the last version again, whole, where Redis does not have it any more, or where it is the version that
        a reader found ``unreadable`` (three times at most); whether that was so."""
        with self._lock:
            if self._last is None:
                return False
            before, weights = self._last
            if unreadable == stamp_of(before) and self._rewritten < _REWRITES:
                self._rewritten += 1
                self._delete(before)
            return self._publish(before.version, weights, before.checksum) is not before

    def _publish(self, version: int, weights: FlatWeights, digest: str) -> Manifest:
        present = self._stream.manifests()
        self._refuse_if_superseded(present)
        if self._last is not None and version <= self._last[0].version:
            again = self._last[0]
            if (version, digest, weights.infos) != (again.version, again.checksum, again.tensors):
                raise ValueError(f"version {version}: the last one published was {again.version}, with other weights")
            if stamp_of(again) in map(stamp_of, present) and chain_to(again, present) is not None:
                return again
            base = None
        else:
            base, self._rewritten = self._base(weights, present), 0
        manifest = self._write(version, weights, base, digest)
        self._last = (manifest, weights)
        self._since_keyframe = 0 if base is None else self._since_keyframe + 1
        self._retain()
        return manifest

    def _refuse_if_superseded(self, present: list[Manifest]) -> None:
        newest = max((manifest.incarnation for manifest in present), default=self._incarnation)
        if newest > self._incarnation:
            raise WeightsError(f"incarnation {self._incarnation} of the learner was superseded by {newest}: stop it")

    def _base(self, weights: FlatWeights, present: list[Manifest]) -> tuple[Manifest, FlatWeights] | None:
        """What the next payload is a delta against; ``None`` for a keyframe."""
        if self._last is None or self._since_keyframe + 1 >= self._keyframe_every:
            return None
        manifest, last = self._last
        # A delta on a chain with a hole could be read only by those who hold its base already.
        whole = stamp_of(manifest) in map(stamp_of, present) and chain_to(manifest, present) is not None
        return self._last if whole and last.infos == weights.infos else None

    def _write(
        self, version: int, weights: FlatWeights, base: tuple[Manifest, FlatWeights] | None, digest: str
    ) -> Manifest:
        stamp = Stamp(self._incarnation, version)
        chunks, payload_bytes = self._store.write(stamp, weights, None if base is None else base[1].buffer)
        manifest = Manifest(
            version=version,
            incarnation=self._incarnation,
            transport=self._store.transport,
            base=None if base is None else base[0].version,
            tensors=weights.infos,
            chunks=chunks,
            payload_bytes=payload_bytes,
            full_bytes=len(weights.buffer),
            checksum=digest,
        )
        # Dying before this line leaves a payload without a manifest: unseen, and overwritten or swept later.
        self._stream.publish_manifest(manifest)
        return manifest

    def _retain(self) -> None:
        # A reader looks, then leases. Where this falls in between, the version it chose is one of the ``keep`` newest;
        # where it was slower than ``keep`` publications, it finds the payload gone and looks again.
        manifests = self._stream.manifests()
        stay = needed(manifests, self._stream.leased_versions(), self._keep)
        for manifest in manifests:
            if stamp_of(manifest) not in stay:
                self._delete(manifest)

    def _delete(self, manifest: Manifest) -> None:
        # The manifest first: what is announced should be there.
        self._stream.delete_version(manifest)
        if isinstance(self._store, _FileStore):
            self._store.delete(manifest)


class WeightReader:
    """A worker's end: holds one version and moves it to the newest."""

    def __init__(
        self,
        stream: WeightStream,
        *,
        worker: str,
        folder: Path | None = None,
        lease_s: float = 60.0,
        retry_pause_s: float = 0.25,
        max_bytes: int | None = None,
    ) -> None:
        """``folder`` is where the file transport's payloads are found; the redis transport needs none. A version is
        leased for ``lease_s`` seconds at a time while it loads. ``retry_pause_s`` lies between attempts: a shared
        file system may show a file later than Redis shows its manifest. A version above ``max_bytes`` is refused
        before memory is asked for; by default half of this machine's, since an update holds two.
        """
        self._stream = stream
        self._worker = worker
        self._folder = folder
        self._lease_s = lease_s
        self._retry_pause_s = retry_pause_s
        self._max_bytes = max_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self._held: FlatWeights | None = None
        self.stamp = NOTHING
        """(incarnation, version) of what the last ``fetch`` returned; ``NOTHING`` before the first. Compare it, not
        the version: after the learner was rolled back, version v is other weights than v was."""

    def newest(self) -> int:
        """The newest version that ``fetch`` would return; -1 if none."""
        return self.newest_stamp().version

    def newest_stamp(self) -> Stamp:
        """The same with its incarnation; ``stamp < newest_stamp()`` says that there is something to fetch."""
        target = self._target(self._stream.manifests())
        return self.stamp if target is None else stamp_of(target)

    def fetch(self, min_version: int = 0) -> tuple[int, FlatWeights]:
        """The newest version and its weights, by deltas from the version held where that is possible.

        Does not wait for versions to come. Raises ``WeightsError`` where nothing as new as ``min_version`` is
        published or the newest version cannot be read whole after several attempts; what was held is then still
        held, and in the second case the learner is asked to publish it again, whole. Needs memory for two versions
        and a chunk.
        """
        problem, unreadable = "no version is published", None
        for attempt in range(_FETCH_ATTEMPTS):
            if attempt:
                time.sleep(self._retry_pause_s * attempt)
            manifests = self._stream.manifests()
            target = self._target(manifests)
            if target is None and self._held is None:
                break
            version = self.stamp.version if target is None else target.version
            if version < min_version:
                problem = f"version {min_version} is due, the newest is {version}"
                break
            if target is None or stamp_of(target) == self.stamp:
                assert self._held is not None
                return version, self._held
            if target.full_bytes > self._max_bytes:
                limit = f"a version of {target.full_bytes} bytes, at most {self._max_bytes} fit on this machine"
                problem, unreadable = f"version {version} of incarnation {target.incarnation}: {limit}", None
                break
            try:
                # After a failure what we hold is under suspicion as well: start from the keyframe.
                self._held = self._load(target, manifests, use_held=attempt == 0)
            except WeightsError as error:
                problem = f"version {target.version} of incarnation {target.incarnation}: {error}"
                unreadable = target
                continue
            self.stamp = stamp_of(target)
            return target.version, self._held
        if unreadable is not None:
            self._stream.tell_unreadable(unreadable.version, unreadable.incarnation)
        raise WeightsError(problem)

    def _target(self, manifests: list[Manifest]) -> Manifest | None:
        """The newest manifest that is not from before what we hold: an older incarnation never comes back, and where
        the version we hold is being written again, the one before it is the newest for a moment."""
        newest = max(manifests, key=stamp_of, default=None)
        return None if newest is None or stamp_of(newest) < self.stamp else newest

    def _load(self, target: Manifest, manifests: list[Manifest], use_held: bool) -> FlatWeights:
        held = self._held if use_held else None
        chain = chain_to(target, manifests, NOTHING if held is None else self.stamp)
        if chain is None:
            raise WeightsError("a version its deltas build on is not published any more")
        for manifest in chain:
            _check_manifest(manifest, target)
        if chain[0].base is not None and held is not None and held.infos != target.tensors:
            raise WeightsError("a delta against tensors of other names or shapes")
        with _Lease(self._stream, self._worker, target.version, self._lease_s) as lease:
            buffer = np.empty(target.full_bytes, np.uint8)
            base = None if held is None else held.buffer
            for manifest in chain:
                if manifest.transport == "file" and self._folder is None:  # the run's configuration would have one
                    raise WeightsError("the version is said to be in a shared folder, and none is configured")
                store = _store(manifest.transport, self._stream, self._folder, CHUNK_BYTES)
                store.read(manifest, buffer, None if manifest.base is None else base, lease.renew)
                base = buffer
            if checksum(buffer, lease.renew) != target.checksum:
                raise WeightsError("the checksum does not match")
        return FlatWeights(target.tensors, buffer)


def _check_manifest(manifest: Manifest, target: Manifest) -> None:
    """Raises ``WeightsError`` unless the sizes a manifest claims agree with one another, before they are trusted."""
    if manifest.tensors != target.tensors:
        raise WeightsError(f"version {manifest.version} in its chain has other tensors")
    if any(side < 0 for info in manifest.tensors for side in info.shape):
        raise WeightsError("a tensor with a negative side")
    if manifest.full_bytes != flat_bytes(manifest.tensors):
        raise WeightsError(f"the manifest says {manifest.full_bytes} bytes, its tensors {flat_bytes(manifest.tensors)}")


class _Lease:
    """Keeps a version from being deleted while it loads."""

    def __init__(self, stream: WeightStream, worker: str, version: int, seconds: float) -> None:
        self._stream, self._worker, self._version, self._seconds = stream, worker, version, seconds

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.release_version(self._worker, self._version)

    def renew(self) -> None:
        """Cheap enough to be called every few megabytes: asks the server after a third of the lease has passed."""
        if time.monotonic() - self._taken >= self._seconds / 3:
            self._take()

    def _take(self) -> None:
        self._taken = time.monotonic()
        self._stream.lease_version(self._worker, self._version, self._seconds)


class _RedisStore:
    """Payloads as chunks, each one value in Redis. A keyframe is packed like a delta, only without the XOR."""

    transport = "redis"

    def __init__(self, stream: WeightStream, chunk_bytes: int) -> None:
        self._stream = stream
        self._chunk_bytes = chunk_bytes

    def write(self, stamp: Stamp, weights: FlatWeights, base: np.ndarray | None) -> tuple[int, int]:
        """Returns (chunks, bytes stored)."""
        chunks = stored = 0
        for chunk in _regroup(encode_pieces(base, weights.buffer, _item_size(weights.infos)), self._chunk_bytes):
            self._stream.put_chunk(stamp.version, stamp.incarnation, chunks, chunk)
            chunks, stored = chunks + 1, stored + len(chunk)
        return chunks, stored

    def read(self, manifest: Manifest, out: np.ndarray, base: np.ndarray | None, tick: Callable[[], None]) -> None:
        decode_pieces(self._chunks(manifest, tick), out, base, _item_size(manifest.tensors))

    def _chunks(self, manifest: Manifest, tick: Callable[[], None]) -> Iterator[bytes]:
        for index in range(manifest.chunks):
            chunk = self._stream.get_chunk(manifest.version, manifest.incarnation, index)
            if chunk is None:
                raise WeightsError(f"chunk {index} of {manifest.chunks} of version {manifest.version} is missing")
            tick()
            yield chunk


class _FileStore:
    """Payloads as files of a shared directory: a keyframe is a safetensors file, a delta a zstd frame.

    A file gets its name only once its bytes are on the disk, so a name that is there stands for a whole payload.
    """

    transport = "file"
    _PAYLOAD = re.compile(r"weights-(\d+)-(\d+)\.(?:safetensors|xor\.zst)")
    _TEMPORARY = re.compile(r"\.weights-\d+-\d+\.(?:safetensors|xor\.zst)\.tmp")

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def sweep(self, incarnation: int, announced: set[Stamp]) -> None:
        """Removes what earlier incarnations left: half-written files, and payloads whose manifest never came or is
        gone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            payload = self._PAYLOAD.fullmatch(path.name)
            stamp = None if payload is None else Stamp(int(payload[1]), int(payload[2]))
            orphaned = stamp is not None and stamp.incarnation < incarnation and stamp not in announced
            if orphaned or self._TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def write(self, stamp: Stamp, weights: FlatWeights, base: np.ndarray | None) -> tuple[int, int]:
        """Returns (1, bytes stored)."""
        if base is None:
            return 1, _write_durably(self._path(stamp, True), [_safetensors_header(weights.infos), weights.buffer.data])
        pieces = encode_pieces(base, weights.buffer, _item_size(weights.infos))
        return 1, _write_durably(self._path(stamp, False), pieces)

    def read(self, manifest: Manifest, out: np.ndarray, base: np.ndarray | None, tick: Callable[[], None]) -> None:
        path = self._path(stamp_of(manifest), base is None)
        try:
            with path.open("rb") as file:
                if base is not None:
                    decode_pieces(_file_pieces(file, tick), out, base, _item_size(manifest.tensors))
                else:
                    _read_safetensors(file, manifest.tensors, out, tick)
        except OSError as error:
            raise WeightsError(f"{path}: {error.strerror or error}") from error
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error

    def delete(self, manifest: Manifest) -> None:
        self._path(stamp_of(manifest), manifest.base is None).unlink(missing_ok=True)

    def _path(self, stamp: Stamp, keyframe: bool) -> Path:
        kind = "safetensors" if keyframe else "xor.zst"
        return self._folder / f"weights-{stamp.incarnation}-{stamp.version:08d}.{kind}"


def _store(transport: str, stream: WeightStream, folder: Path | None, chunk_bytes: int) -> _RedisStore | _FileStore:
    if transport == "redis":
        return _RedisStore(stream, chunk_bytes)
    if transport != "file":
        raise WeightsError(f"weights travel by 'redis' or 'file', not by {transport[:32]!r}")
    if folder is None:
        raise ConfigError("the file transport of weights needs a shared folder, and none is configured")
    return _FileStore(folder)


def _regroup(pieces: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of ``size``, the last one shorter."""
    pending = bytearray()
    for piece in pieces:
        pending += piece
        while len(pending) >= size:
            yield bytes(pending[:size])
            del pending[:size]
    if pending:
        yield bytes(pending)


def _write_durably(path: Path, pieces: Iterable[bytes | memoryview]) -> int:
    """Writes a file so that its name appears only with all its bytes, even across a power cut; returns its size."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        size = file.tell()
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    # The new name itself lives in the directory, which has to reach the disk as well.
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return size


def _file_pieces(file: io.BufferedReader, tick: Callable[[], None]) -> Iterator[bytes]:
    while piece := file.read(_IO_BYTES):
        tick()
        yield piece


def _safetensors_header(infos: Iterable[TensorInfo]) -> bytes:
    """The head of a safetensors file: a length (8 bytes, little-endian), then JSON padded so that data is aligned."""
    entries, start = {}, 0
    for info in infos:
        end = start + _dtype_bytes(info) * prod(info.shape)
        dtype = _SAFETENSORS_DTYPES[info.dtype]
        entries[info.name] = {"dtype": dtype, "shape": list(info.shape), "data_offsets": [start, end]}
        start = end
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _read_safetensors(
    file: io.BufferedReader, infos: tuple[TensorInfo, ...], out: np.ndarray, tick: Callable[[], None]
) -> None:
    header = _safetensors_header(infos)
    if file.read(len(header)) != header:
        raise WeightsError("the file's header is not that of the announced tensors")
    for start in range(0, len(out), _IO_BYTES):
        piece = out[start : start + _IO_BYTES]
        if file.readinto(piece.data) != len(piece):
            raise WeightsError("the file ends too early")
        tick()
    if file.read(1):
        raise WeightsError("the file is longer than its tensors")


def _dtype_bytes(info: TensorInfo) -> int:
    if info.dtype not in DTYPE_BYTES:
        raise WeightsError(f"tensor {info.name}: dtype {info.dtype!r} cannot be published, use one of {[*DTYPE_BYTES]}")
    return DTYPE_BYTES[info.dtype]


def _item_size(infos: Iterable[TensorInfo]) -> int:
    """The width of one weight where all have the same; else 1, which is right for any and only packs less well."""
    widths = {_dtype_bytes(info) for info in infos}
    return widths.pop() if len(widths) == 1 else 1
