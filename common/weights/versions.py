"""Defines a version: its stamp, its flat bytes and their checksum, and which manifests belong together. Pure."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from ..errors import WeightsError
from ..types import Manifest, TensorInfo

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Width in bytes of every dtype that can be published."""
IO_BYTES = 16 * 1024 * 1024


class Stamp(NamedTuple):
    """What identifies a version. Stamps are ordered: a newer incarnation comes after every version of an older one."""

    incarnation: int
    version: int


NOTHING = Stamp(-1, -1)
"""The stamp if no version is held or published."""


@dataclass(frozen=True, slots=True)
class FlatWeights:
    """All tensors of one version, one after the other in one buffer."""

    infos: tuple[TensorInfo, ...]
    """The tensors, in the order of their bytes."""
    buffer: np.ndarray
    """uint8, shape [bytes], little-endian items. Publisher and reader keep it as the base of the next delta, so do not
    write into it."""

    def __post_init__(self) -> None:
        assert self.buffer.dtype == np.uint8
        assert self.buffer.shape == (flat_bytes(self.infos),)


def stamp_of(manifest: Manifest) -> Stamp:
    return Stamp(manifest.incarnation, manifest.version)


def flat_bytes(infos: Iterable[TensorInfo]) -> int:
    """Bytes of the flat buffer. Raises ``WeightsError`` for a dtype that cannot be published."""
    return sum(dtype_bytes(info) * prod(info.shape) for info in infos)


def checksum(buffer: np.ndarray, tick: Callable[[], None] = lambda: None) -> str:
    """sha256 (hex) of a flat uint8 buffer. ``tick`` is called every few megabytes."""
    digest = hashlib.sha256()
    for start in range(0, len(buffer), IO_BYTES):
        digest.update(buffer[start : start + IO_BYTES].data)
        tick()
    return digest.hexdigest()


def chain_to(target: Manifest, manifests: Iterable[Manifest], held: Stamp = NOTHING) -> list[Manifest] | None:
    """The manifests to apply one after the other to arrive at ``target``.

    The first is a keyframe, or a delta whose base is ``held``. ``None`` if a link is missing.
    """
    by_stamp = {stamp_of(manifest): manifest for manifest in manifests}
    chain = [target]
    while (base := chain[-1].base) is not None:
        stamp = Stamp(target.incarnation, base)
        if stamp == held:
            break
        # A base is older than its delta. A manifest that says otherwise could send us round in circles.
        if stamp not in by_stamp or base >= chain[-1].version:
            return None
        chain.append(by_stamp[stamp])
    return chain[::-1]


def needed(manifests: Iterable[Manifest], leased: Iterable[int], keep: int) -> set[Stamp]:
    """The versions that must stay: the ``keep`` newest of the newest incarnation, every leased one, and their chains.

    A chain runs back to its keyframe, because a reader that joins late starts there.
    """
    manifests = list(manifests)
    if not manifests:
        return set()
    leased = set(leased)
    incarnation = max(manifest.incarnation for manifest in manifests)
    newest = sorted({stamp_of(m) for m in manifests if m.incarnation == incarnation})[-keep:]
    # A lease names a version without its incarnation, so it protects that version of every incarnation.
    roots = [m for m in manifests if m.version in leased or stamp_of(m) in newest]
    return {stamp_of(link) for root in roots for link in chain_to(root, manifests) or [root]}


def dtype_bytes(info: TensorInfo) -> int:
    """Bytes of one item. Raises ``WeightsError`` for a dtype that cannot be published."""
    if info.dtype not in DTYPE_BYTES:
        raise WeightsError(f"tensor {info.name}: dtype {info.dtype!r} cannot be published, use one of {[*DTYPE_BYTES]}")
    return DTYPE_BYTES[info.dtype]
