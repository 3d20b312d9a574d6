"""A worker's end: fetches the newest version, by deltas if possible, and never serves bytes that were not checked."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from ..errors import WeightsError
from ..queue.weights import WeightStream
from ..types import Manifest
from .node import TurnLostError
from .shards import digest, each, place_of, refuse_unsound
from .transport import store_of
from .versions import NOTHING, FlatWeights, Link, Stamp, chain_to, flat_bytes, item_size_of, stamp_of

_FETCH_ATTEMPTS = 4


class Copy(Protocol):
    """Where a reader keeps what it has read: in its own memory (``OwnCopy``), or in a copy that the workers of a node
    share (``NodeCopy``)."""

    def turn(self, version_bytes: int) -> AbstractContextManager[None]:
        """Nobody else reads within the block. A version has so many bytes."""

    def tick(self) -> None:
        """Say that the reader gets on. It is called every few megabytes."""

    def newest(self) -> tuple[Stamp, np.ndarray] | None:
        """The newest version that is held whole, as the base of a delta: uint8 [bytes], not to be written."""

    def find(self, target: Manifest) -> FlatWeights | None:
        """The weights of ``target``, if they are held."""

    def written(self, target: Manifest) -> AbstractContextManager[np.ndarray]:
        """A buffer to decode ``target`` into: uint8 [bytes]. It is held from then on, if the block ends without an
        error."""


class OwnCopy:
    """The copy of a process that keeps its weights to itself. What it gives out stays as it is."""

    def __init__(self) -> None:
        self._held: tuple[Stamp, FlatWeights] | None = None

    def turn(self, version_bytes: int) -> AbstractContextManager[None]:
        """Do nothing: nobody shares the copy."""
        return nullcontext()

    def tick(self) -> None:
        """Do nothing: nobody waits."""

    def newest(self) -> tuple[Stamp, np.ndarray] | None:
        return None if self._held is None else (self._held[0], self._held[1].buffer)

    def find(self, target: Manifest) -> FlatWeights | None:
        return self._held[1] if self._held is not None and self._held[0] == stamp_of(target) else None

    @contextmanager
    def written(self, target: Manifest) -> Iterator[np.ndarray]:
        buffer = np.empty(target.full_bytes, np.uint8)
        yield buffer
        self._held = (stamp_of(target), FlatWeights(target.tensors, buffer))


class WeightReader:
    """A worker's end: it holds one version and replaces it by the newest."""

    def __init__(
        self,
        stream: WeightStream,
        *,
        worker: str,
        folder: Path | None = None,
        lease_s: float = 60.0,
        retry_pause_s: float = 0.25,
        max_bytes: int | None = None,
        threads: int = 1,
        copy: Copy | None = None,
    ) -> None:
        """``folder`` holds the file transport's payloads; the redis transport needs none. A version is leased for
        ``lease_s`` seconds at a time while it loads. ``retry_pause_s`` seconds lie between tries, since a shared file
        system may show a file later than Redis shows its manifest. A version of more than ``max_bytes`` is refused
        before memory is allocated; by default half of this machine's memory, since an update holds two versions.
        So many ``threads`` read and decode. ``copy`` is where the weights lie: by default, in the memory of this
        process alone.
        """
        self._stream = stream
        self._worker = worker
        self._folder = folder
        self._lease_s = lease_s
        self._retry_pause_s = retry_pause_s
        self._max_bytes = max_bytes or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        self._threads = threads
        self._copy = OwnCopy() if copy is None else copy
        self._taken: Manifest | None = None  # of what the last ``fetch`` returned

    @property
    def stamp(self) -> Stamp:
        """(incarnation, version) of what the last ``fetch`` returned; ``NOTHING`` before the first. Compare this and
        not the version: after a rollback of the learner, version v may stand for other weights than before."""
        return NOTHING if self._taken is None else stamp_of(self._taken)

    def newest(self) -> int:
        """The newest version that ``fetch`` would return; -1 if there is none."""
        return self.newest_stamp().version

    def newest_stamp(self) -> Stamp:
        """The newest version with its incarnation. If ``stamp < newest_stamp()``, there is something to fetch."""
        target = self._target(self._stream.manifests())
        return NOTHING if target is None else stamp_of(target)

    def fetch(self, min_version: int = 0) -> tuple[int, FlatWeights]:
        """The newest version and its weights, read by deltas from the newest that the copy holds, if possible.

        It does not wait for new versions; where the workers of a node share the copy, it waits for its turn. Raises
        ``WeightsError`` if nothing as new as ``min_version`` is published, or if the newest version cannot be read
        whole after several tries. What was held then stays held, and in the second case the learner is asked to publish
        the newest again, whole. It needs memory for two versions, and a few megabytes for each thread. Raises
        ``ConfigError`` where the node has no room for them.
        """
        target = self._target(self._stream.manifests())
        if target is None:
            raise WeightsError("no version is published")
        self._refuse_too_large(target)
        with self._copy.turn(target.full_bytes):
            return self._fetch(min_version)

    def _fetch(self, min_version: int) -> tuple[int, FlatWeights]:
        problem, unreadable = "no version is published", None
        for attempt in range(_FETCH_ATTEMPTS):
            if attempt:
                time.sleep(self._retry_pause_s * attempt)
                self._copy.tick()
            manifests = self._stream.manifests()
            target = self._target(manifests)
            if target is None:
                break
            if target.version < min_version:
                raise WeightsError(f"expected version {min_version} or newer, the newest is {target.version}")
            self._refuse_too_large(target)
            try:
                # After a failure the held version is suspect as well, so start from the keyframe.
                weights = self._copy.find(target) or self._load(target, manifests, use_held=attempt == 0)
            except TurnLostError:
                raise
            except WeightsError as error:
                problem, unreadable = f"{_named(target)}: {error}", target
                continue
            self._taken = target
            return target.version, weights
        if unreadable is not None:
            self._stream.tell_unreadable(unreadable.version, unreadable.incarnation)
        raise WeightsError(problem)

    def _refuse_too_large(self, target: Manifest) -> None:
        if target.full_bytes > self._max_bytes:
            limit = f"a version of {target.full_bytes} bytes, at most {self._max_bytes} fit on this machine"
            raise WeightsError(f"{_named(target)}: {limit}")

    def _target(self, manifests: list[Manifest]) -> Manifest | None:
        """The newest manifest that is not older than the held version: an older incarnation never comes back, and while
        the held version is being written again, the one before it is the newest for a moment."""
        newest = max(manifests, key=stamp_of, default=None)
        return self._taken if newest is None or stamp_of(newest) < self.stamp else newest

    def _load(self, target: Manifest, manifests: list[Manifest], use_held: bool) -> FlatWeights:
        """Decode ``target`` into the copy. Raises ``WeightsError`` where it cannot be had whole."""
        held = self._copy.newest() if use_held else None
        chain = chain_to(target, manifests, NOTHING if held is None else held[0])
        if chain is None:
            raise WeightsError("a version its deltas build on is not published any more")
        for manifest, _ in chain:
            _check_manifest(manifest, target)
        base = None if held is None or chain[0][1].base is None else held[1]
        if base is not None and len(base) != target.full_bytes:
            raise WeightsError("a delta against tensors of another size")
        with (
            _Lease(self._stream, self._worker, target.version, self._lease_s) as lease,
            self._copy.written(target) as buffer,
        ):
            turn = threading.Lock()

            def tick() -> None:
                with turn:  # the threads that decode come here, too
                    lease.renew()
                    self._copy.tick()

            self._decode(target, chain, buffer, base, tick)
        found = self._copy.find(target)
        if found is None:
            raise WeightsError("it was decoded, and is gone from this machine's copy")
        return found

    def _decode(
        self, target: Manifest, chain: list[Link], buffer: np.ndarray, base: np.ndarray | None, tick: Callable[[], None]
    ) -> None:
        """Go along the whole chain shard by shard, several shards at a time. ``buffer`` has every bit of ``target``
        afterwards, or ``WeightsError`` is raised."""
        with ExitStack() as opened:
            links = []
            for manifest, payload in chain:
                if manifest.transport == "file" and self._folder is None:  # a run's own configuration would have one
                    raise WeightsError("the version is said to be in a shared folder, and none is configured")
                store = store_of(manifest.transport, self._stream, self._folder, self._threads)
                links.append(opened.enter_context(store.opened(manifest, payload, tick)))

            def decode(number: int) -> None:
                shard = target.shards[number]
                out = buffer[place_of(shard)]
                against = None if base is None else base[place_of(shard)]
                for read in links:
                    read(number, out, against)
                    against = out
                if digest(out) != shard.digest:
                    raise WeightsError(f"shard {number} of {len(target.shards)}: the digest does not match")
                tick()

            each(decode, range(len(target.shards)), self._threads)


def _named(manifest: Manifest) -> str:
    return f"version {manifest.version} of incarnation {manifest.incarnation}"


def _check_manifest(manifest: Manifest, target: Manifest) -> None:
    """Raise ``WeightsError`` unless the sizes that a manifest claims agree with one another, before they are
    trusted."""
    if manifest.tensors != target.tensors:
        raise WeightsError(f"version {manifest.version} in its chain has other tensors")
    if any(side < 0 for info in manifest.tensors for side in info.shape):
        raise WeightsError("a tensor with a negative side")
    if manifest.full_bytes != flat_bytes(manifest.tensors):
        raise WeightsError(f"the manifest says {manifest.full_bytes} bytes, its tensors {flat_bytes(manifest.tensors)}")
    refuse_unsound(manifest, item_size_of(manifest.tensors))
    if [(shard.offset, shard.bytes) for shard in manifest.shards] != [(s.offset, s.bytes) for s in target.shards]:
        raise WeightsError(f"version {manifest.version} in its chain is cut into other shards")


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
        """Renew the lease if a third of it has passed. It is cheap enough to be called every few megabytes."""
        if time.monotonic() - self._taken >= self._seconds / 3:
            self._take()

    def _take(self) -> None:
        self._taken = time.monotonic()
        self._stream.lease_version(self._worker, self._version, self._seconds)
