"""Cuts a version into shards, digests them, and works on several of them at a time. Pure: no queue and no file.

All tensors of a version lie end to end in one flat buffer, in the order of a safetensors file. A shard is
``SHARD_BYTES`` of it (the last one may be shorter), whatever tensors begin or end there. Each shard is digested,
encoded and decoded by itself, so several threads can share a version: zstd, sha256 and numpy's XOR let go of Python's
lock. The checksum of a version is the digest of its shards' digests.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..errors import WeightsError
from ..types import Encoding, Manifest, Shard

SHARD_BYTES = 1 << 26
"""Bytes of a shard. It is part of the format, because the checksum of a version depends on it."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def cut(size: int, shard_bytes: int = SHARD_BYTES) -> list[slice]:
    """Where each shard of a flat buffer of ``size`` bytes lies."""
    return [slice(start, min(start + shard_bytes, size)) for start in range(0, size, shard_bytes)]


def place_of(shard: Shard) -> slice:
    """Where the shard lies in the flat buffer."""
    return slice(shard.offset, shard.offset + shard.bytes)


def digest(data: np.ndarray) -> str:
    """sha256 (hex) of a shard's bytes, decoded: uint8 [bytes]."""
    return hashlib.sha256(data.data).hexdigest()


def shards_of(buffer: np.ndarray, threads: int = 1, shard_bytes: int = SHARD_BYTES) -> tuple[Shard, ...]:
    """The shards of a flat buffer, uint8 [bytes], each with its digest."""

    def shard(place: slice) -> Shard:
        return Shard(offset=place.start, bytes=place.stop - place.start, digest=digest(buffer[place]))

    return tuple(in_order(shard, cut(len(buffer), shard_bytes), threads))


def digest_of(shards: Iterable[Shard]) -> str:
    """The checksum of a version: sha256 (hex) of its shards' digests (each 64 hex digits), one after the other."""
    return hashlib.sha256("".join(shard.digest for shard in shards).encode()).hexdigest()


def checksum(buffer: np.ndarray, threads: int = 1) -> str:
    """The checksum under which a flat uint8 buffer is published."""
    return digest_of(shards_of(buffer, threads))


def refuse_unsound(manifest: Manifest, item_size: int) -> None:
    """Raise ``WeightsError`` unless the shards that a manifest lists cover its bytes and its payloads have them all.
    ``item_size``: bytes of one weight."""
    end = 0
    for shard in manifest.shards:
        if shard.offset != end or shard.bytes < 1 or shard.bytes % item_size:
            raise WeightsError(
                f"a shard of {shard.bytes} bytes at {shard.offset}, where one that begins at {end} is due"
            )
        end += shard.bytes
    if end != manifest.full_bytes:
        raise WeightsError(f"the shards cover {end} bytes of {manifest.full_bytes}")
    if digest_of(manifest.shards) != manifest.checksum:
        raise WeightsError("the checksum is not that of the shards' digests")
    for payload in manifest.payloads:
        if len(payload.stored) != len(manifest.shards):
            raise WeightsError(f"a payload with {len(payload.stored)} of {len(manifest.shards)} shards")
        if (payload.base is None) == (payload.encoding is Encoding.DELTA):
            raise WeightsError(f"a payload with the base {payload.base} in the encoding {payload.encoding.value!r}")


def in_order(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Iterator[Result]:
    """``work`` of each item, in the order of ``items``, on at most ``threads`` threads. At most ``threads`` + 1 results
    wait to be taken, since each may be as large as a shard. What ``work`` raises is raised here, and nothing new is
    begun then."""
    if threads == 1 or len(items) <= 1:
        yield from map(work, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(min(threads, len(items)), thread_name_prefix="weights") as pool:
        try:
            for item in items:
                if len(waiting) > threads:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def each(work: Callable[[Item], None], items: Sequence[Item], threads: int) -> None:
    """Do ``work`` for each item, on at most ``threads`` threads. Raises what ``work`` raises."""
    for _ in in_order(work, items, threads):
        pass
