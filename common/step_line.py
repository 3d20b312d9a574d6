"""A training step in one line, the same wherever a person looks: ``leeway up``, the learner's log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def step_line(step: Mapping[str, Any], steps: int | str) -> str:
    """The line of one record of ``metrics.jsonl``. ``steps``: training steps of the whole run."""
    refunds = [(name.removeprefix("refunds/"), count) for name, count in step.items() if name.startswith("refunds/")]
    refunded = ", ".join(f"{count} {reason}" for reason, count in refunds if count)
    return (
        f"step {step['version']}/{steps}  reward {step['reward/mean']:.3f}  "
        f"entropy {step['entropy/policy']:.3f} (target {step['entropy/target']:.3g})  "
        f"tokens {step['batch/tokens']:,.0f}  "
        f"staleness {step['staleness/head_mean']:.2f} (max {step['staleness/head_max']:.0f})  "
        f"{step['time/step_s']:.1f} s (waited {step['time/wait_for_batch_s']:.1f})"
        + (f"  refunded {refunded}" if refunded else "")
    )
