"""What lies in Redis and on disk."""

from .learner import Part
from .shapes import Shape

DELTA = 0.03
"""A delta's share of a whole version, at most, at the learning rates of the presets (docs/evidence/weights.md)."""


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


def checkpoint_widths(*, zero_stage: int, width: int) -> tuple[int, int]:
    """Bytes a parameter of a checkpoint: what rank 0 alone has, and what the ranks share. ``width``: bytes of a weight.
    Under ZeRO the weights are beside their masters up to stage 2; at stage 0 there are no masters."""
    return {0: (12, 0), 1: (width, 12), 2: (width, 12), 3: (0, 12)}[zero_stage]


def checkpoint_bytes(shape: Shape, *, zero_stage: int, width: int = 4) -> float:
    """Bytes of a checkpoint, over all ranks: weights, and under ZeRO masters, with AdamW's moments."""
    return float(shape.parameters) * sum(checkpoint_widths(zero_stage=zero_stage, width=width))


def on_disk(
    shape: Shape, *, checkpoint: float, kept: int, width: int, keyframe_every: int, samples: float, by_file: bool
) -> list[Part]:
    """What a run leaves on disk. ``checkpoint``: bytes of one. ``kept``: how many, beside the one being written.
    ``width``: bytes of a published weight."""
    each, version = checkpoint, float(width * shape.parameters)
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
