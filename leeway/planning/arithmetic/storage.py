"""What lies in Redis and on disk."""

from .learner import Part
from .shapes import Shape

DELTA = 0.03
"""A delta's share of a whole version, at most, at the learning rates of the presets (docs/performance.md)."""


def token_bytes(vocabulary: int | None) -> int:
    """Bytes of a response's token in Redis: its id, and its log-probability."""
    return 8 if vocabulary is None or vocabulary > 1 << 16 else 6


def group_bytes(*, group_size: int, response: int, prompt: int, vocabulary: int | None) -> int:
    """Bytes of a group's payload in Redis, if every response is the longest."""
    each = token_bytes(vocabulary)
    return group_size * response * each + prompt * (each - 4)


def groups_in_redis(*, groups_per_step: int, max_staleness: int, checkpoint_every: int, beside: bool) -> int:
    """Most groups that have a payload in Redis: those that are live, and those that were trained and that no checkpoint
    covers yet. ``beside``: whether checkpoints are written beside training. The groups of a checkpoint then stay until
    it is whole, while those of the next interval come."""
    uncovered = checkpoint_every * (2 if beside else 1)
    return (max_staleness + 1 + uncovered) * groups_per_step


def checkpoint_bytes(shape: Shape, *, zero_stage: int) -> float:
    """Bytes of a checkpoint, over all ranks: weights, and under ZeRO masters, with AdamW's moments."""
    return float(shape.parameters) * {0: 12, 1: 16, 2: 16, 3: 12}[zero_stage]


def on_disk(
    shape: Shape, *, zero_stage: int, kept: int, width: int, keyframe_every: int, samples: float, by_file: bool
) -> list[Part]:
    """What a run leaves on disk. ``kept``: checkpoints, beside the one being written. ``width``: bytes of a published
    weight."""
    each, version = checkpoint_bytes(shape, zero_stage=zero_stage), float(width * shape.parameters)
    name = {True: "versions in weights.folder", False: "versions in Redis"}[by_file]
    deltas = DELTA * version * keyframe_every
    # While a reader still needs the last delta before a keyframe, two keyframes are there.
    versions = 2 * version + deltas
    how = f"two whole versions, and {keyframe_every} deltas of at most {100 * DELTA:.0f} %"
    return [
        Part("checkpoints", 0.0, (kept + 1) * each, f"({kept} kept + 1 being written) x {each / 1e9:,.1f} GB"),
        Part(name, 0.0, versions, how),
        Part("samples", 0.0, samples, "metrics.samples_bytes"),
    ]
