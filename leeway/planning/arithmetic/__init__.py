"""What a configuration means in memory, disk, time and processes, worked out and not measured: ``leeway up --dry-run``
and ``leeway plan --preset``. Pure; nothing is loaded. 1 GB is 1e9 bytes.

``shapes`` has a model's sizes. ``learner``, ``rollout``, ``host``, ``storage`` and ``speed`` each count one thing from
plain values. ``asked`` takes those values out of a configuration, ``fitting`` finds the keys that would make it fit,
and ``page`` prints.
"""

from .fitting import learner_bytes, why_not
from .page import describe
from .shapes import BASES, Shape, shape_of
from .speed import Gpu

__all__ = ["BASES", "Gpu", "Shape", "describe", "learner_bytes", "shape_of", "why_not"]
