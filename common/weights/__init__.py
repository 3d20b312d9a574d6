"""Takes versions of the weights from the learner to every rollout worker: publishes, fetches by delta, and checks them.

A version travels as a payload and a manifest. The payload is written first and the manifest announces it, so a reader
sees a version whole or not at all. The flat weights are cut into shards, each with a digest in the manifest, so a
reader that gets other bytes, for whatever reason, knows it and never serves them. Payloads are keyframes (a whole
version) or deltas against the version before; a keyframe's version has both. A *stamp* (incarnation, version) names a
version for good, since after a rollback the same version number may stand for other weights.

``versions`` says what a version is and which of them belong together, ``shards`` how one is cut. ``transport`` moves
payloads. ``publishing`` is the learner's end, and ``reading`` is a worker's. ``node`` is the copy that the workers of a
rollout node share, and ``node_folder`` is where it lies.
"""

from .node import NodeCopy
from .publishing import WeightPublisher
from .reading import WeightReader
from .shards import checksum
from .versions import (
    DTYPE_BYTES,
    NOTHING,
    FlatWeights,
    Stamp,
    chain_to,
    flat_bytes,
    needed,
    stamp_of,
)

__all__ = [
    "DTYPE_BYTES",
    "NOTHING",
    "FlatWeights",
    "NodeCopy",
    "Stamp",
    "WeightPublisher",
    "WeightReader",
    "chain_to",
    "checksum",
    "flat_bytes",
    "needed",
    "stamp_of",
]
