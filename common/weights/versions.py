"""Defines a version: its stamp, its flat bytes, and which manifests belong together. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np

from ..errors import WeightsError
from ..types import Manifest, Payload, TensorInfo

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
"""Width in bytes of every dtype that can be published."""
IO_BYTES = 1 << 22
"""Bytes that one thread reads or writes at a time."""
LATE = 2
"""How many versions behind the ``keep`` newest a reader may be that still follows by deltas."""


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


Link = tuple[Manifest, Payload]
"""A version, and which of its payloads is read."""


def chain_to(target: Manifest, manifests: Iterable[Manifest], held: Stamp = NOTHING) -> list[Link] | None:
    """What to read one after the other to arrive at ``target``.

    If deltas lead from ``held`` to it, these; else the newest keyframe on the way back, and the deltas after it.
    ``None`` if a link is missing.
    """
    by_stamp = {stamp_of(manifest): manifest for manifest in manifests}
    link, deltas, from_keyframe = target, list[Link](), None
    while True:
        if from_keyframe is None and (keyframe := link.keyframe) is not None:
            from_keyframe = [(link, keyframe), *deltas[::-1]]
        if (delta := link.delta) is None or delta.base is None:
            return from_keyframe
        deltas.append((link, delta))
        stamp = Stamp(target.incarnation, delta.base)
        if stamp == held:
            return deltas[::-1]
        # A base is older than its delta. A manifest that says otherwise could send us round in circles.
        if stamp not in by_stamp or delta.base >= link.version:
            return from_keyframe
        link = by_stamp[stamp]


def needed(manifests: Iterable[Manifest], leased: Iterable[int], keep: int) -> set[Stamp]:
    """The versions that must stay: the ``keep`` newest of the newest incarnation, every leased one, and what leads to
    them.

    A chain runs back to its keyframe, because a reader that joins late starts there. The deltas of a few versions
    before the newest stay as well, so that a reader that follows and is a little late needs no keyframe.
    """
    manifests = list(manifests)
    if not manifests:
        return set()
    leased = set(leased)
    incarnation = max(manifest.incarnation for manifest in manifests)
    own = sorted({stamp_of(m) for m in manifests if m.incarnation == incarnation})
    newest = own[-keep:]
    # A lease names a version without its incarnation, so it protects that version of every incarnation.
    roots = [m for m in manifests if m.version in leased or stamp_of(m) in newest]
    stay = {stamp_of(root) for root in roots}
    for root in roots:
        stay |= {stamp_of(link) for link, _ in chain_to(root, manifests) or []}
    for stamp in own[-keep - LATE : -keep][::-1]:
        if next(m for m in manifests if stamp_of(m) == stamp).keyframe is not None and stamp not in stay:
            break  # it is large, and what comes before it leads here alone
        stay.add(stamp)
    return stay


def dtype_bytes(info: TensorInfo) -> int:
    """Bytes of one item. Raises ``WeightsError`` for a dtype that cannot be published."""
    if info.dtype not in DTYPE_BYTES:
        raise WeightsError(f"tensor {info.name}: dtype {info.dtype!r} cannot be published, use one of {[*DTYPE_BYTES]}")
    return DTYPE_BYTES[info.dtype]


def item_size_of(infos: Iterable[TensorInfo]) -> int:
    """Bytes of the narrowest weight, of which every other width is a multiple."""
    return min(map(dtype_bytes, infos), default=1)
