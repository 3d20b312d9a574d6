"""What a configuration means in memory, disk, time and processes, worked out and not measured: ``leeway up --dry-run``
and ``leeway plan --preset``. Pure; nothing is loaded. 1 GB is 1e9 bytes.

``shapes`` has a model's sizes. ``learner``, ``rollout``, ``host``, ``storage`` and ``speed`` each count one thing from
plain values. ``asked`` takes those values out of a configuration, ``nodes`` sums up what it asks of nodes and of Redis,
``fitting`` finds the keys that would make it fit its GPUs, and ``page`` prints.
"""

from .fitting import learner_bytes, why_not
from .nodes import in_redis, learner_node, learner_on_cpu, left_on_disk, rollout_node
from .page import describe
from .shapes import BASES, Shape, shape_of
from .speed import Gpu

__all__ = [
    "BASES",
    "Gpu",
    "Shape",
    "describe",
    "in_redis",
    "learner_bytes",
    "learner_node",
    "learner_on_cpu",
    "left_on_disk",
    "rollout_node",
    "shape_of",
    "why_not",
]
