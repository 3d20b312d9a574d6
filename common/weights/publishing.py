"""The learner's end: publishes a version, repairs it, and deletes what nobody needs any more."""

import threading
from pathlib import Path

import numpy as np

from ..errors import WeightsError
from ..queue.weights import WeightStream
from ..types import Manifest, Shard
from .shards import SHARD_BYTES, digest_of, shards_of
from .transport import FileStore, store_of
from .versions import FlatWeights, Stamp, chain_to, needed, stamp_of

_REWRITES = 3  # most repairs of one version: a reader on a broken machine must not keep us at it


class WeightPublisher:
    """The learner's end. Only one publishes at a time: one that sees a newer incarnation's manifest refuses to go
    on."""

    def __init__(
        self,
        stream: WeightStream,
        *,
        incarnation: int,
        transport: str,
        folder: Path | None = None,
        keyframe_every: int = 20,
        keep: int = 2,
        threads: int = 1,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        """``transport`` is ``redis`` or ``file``. ``file`` needs ``folder``, a directory of this run alone that all
        workers can read. Every ``keyframe_every``-th version is stored whole, and as a delta beside that. The ``keep``
        newest versions (at least 1) always stay readable: with 2, a reader that has just chosen the last version still
        finds it when the next comes. ``threads`` of them digest, encode and write. ``shard_bytes`` is part of the
        format; tests set it.
        """
        assert min(keyframe_every, keep, threads, shard_bytes) >= 1
        self._stream = stream
        self._incarnation = incarnation
        self._keyframe_every = keyframe_every
        self._keep = keep
        self._threads, self._shard_bytes = threads, shard_bytes
        self._store = store_of(transport, stream, folder, threads)
        self._last: tuple[Manifest, FlatWeights] | None = None
        self._since_keyframe = 0
        self._rewritten = 0
        self._lock = threading.Lock()  # ``repair`` may come from another thread
        if isinstance(self._store, FileStore):
            self._store.sweep(incarnation, {stamp_of(manifest) for manifest in stream.manifests()})

    def publish(self, version: int, weights: FlatWeights) -> Manifest:
        """Store ``weights``, announce them, and delete what nobody needs. Returns the manifest.

        Versions rise. Publishing the last one again, with the same weights, is harmless and repairs it: if its manifest
        has left the stream (Redis came back empty), a keyframe is written. Raises ``WeightsError`` if a newer
        incarnation has taken over. Keeps ``weights.buffer`` until the next call.
        """
        with self._lock:
            return self._publish(version, weights, shards_of(weights.buffer, self._threads, self._shard_bytes))

    def repair(self, unreadable: Stamp | None = None) -> bool:
        """Publish the last version again, whole, if Redis does not have it any more, or if a reader found it
        ``unreadable`` (at most three times). Returns whether it was published."""
        with self._lock:
            if self._last is None:
                return False
            before, weights = self._last
            if unreadable == stamp_of(before) and self._rewritten < _REWRITES:
                self._rewritten += 1
                self._delete(before)
            return self._publish(before.version, weights, before.shards) is not before

    def _publish(self, version: int, weights: FlatWeights, shards: tuple[Shard, ...]) -> Manifest:
        present = self._stream.manifests()
        self._refuse_if_superseded(present)
        if self._last is not None and version <= self._last[0].version:
            again = self._last[0]
            if (version, shards, weights.infos) != (again.version, again.shards, again.tensors):
                raise ValueError(f"version {version}: the last one published was {again.version}, with other weights")
            if stamp_of(again) in map(stamp_of, present) and chain_to(again, present) is not None:
                return again
            base = None
        else:
            base, self._rewritten = self._base(weights, present), 0
        manifest = self._write(version, weights, shards, base)
        self._last = (manifest, weights)
        self._since_keyframe = self._since_keyframe + 1 if manifest.keyframe is None else 0
        self._retain()
        return manifest

    def _refuse_if_superseded(self, present: list[Manifest]) -> None:
        newest = max((manifest.incarnation for manifest in present), default=self._incarnation)
        if newest > self._incarnation:
            raise WeightsError(f"incarnation {self._incarnation} of the learner was superseded by {newest}: stop it")

    def _base(self, weights: FlatWeights, present: list[Manifest]) -> tuple[int, np.ndarray] | None:
        """The version that the next delta is against, and its flat buffer; ``None`` where there can be no delta."""
        if self._last is None:
            return None
        manifest, last = self._last
        # Only readers that hold its base already could read a delta on a chain with a hole.
        whole = stamp_of(manifest) in map(stamp_of, present) and chain_to(manifest, present) is not None
        return (manifest.version, last.buffer) if whole and last.infos == weights.infos else None

    def _write(
        self,
        version: int,
        weights: FlatWeights,
        shards: tuple[Shard, ...],
        base: tuple[int, np.ndarray] | None,
    ) -> Manifest:
        stamp = Stamp(self._incarnation, version)
        ways: list[tuple[int, np.ndarray] | None] = [] if base is None else [base]
        if base is None or self._since_keyframe + 1 >= self._keyframe_every:
            ways.append(None)
        manifest = Manifest(
            version=version,
            incarnation=self._incarnation,
            transport=self._store.transport,
            tensors=weights.infos,
            full_bytes=len(weights.buffer),
            shards=shards,
            payloads=tuple(self._store.write(stamp, weights, shards, way) for way in ways),
            checksum=digest_of(shards),
        )
        # A death before this line leaves a payload without a manifest: unseen, and overwritten or swept later.
        self._stream.publish_manifest(manifest)
        return manifest

    def _retain(self) -> None:
        # A reader looks, then leases. If this runs in between, the version it chose is one of the ``keep`` newest;
        # if it was slower than ``keep`` publications, it finds the payload gone and looks again.
        manifests = self._stream.manifests()
        stay = needed(manifests, self._stream.leased_versions(), self._keep)
        for manifest in manifests:
            if stamp_of(manifest) not in stay:
                self._delete(manifest)

    def _delete(self, manifest: Manifest) -> None:
        # The manifest goes first, because what is announced should be there.
        self._stream.delete_version(manifest)
        self._store.delete(manifest)
