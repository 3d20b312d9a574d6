"""A training step in one line, the same for ``leeway up`` and the learner's log. Pure."""

from collections.abc import Mapping
from typing import Any


def step_line(step: Mapping[str, Any], steps: int | str) -> str:
    """The line of one record of ``metrics.jsonl``. ``steps``: training steps of the whole run. What the record lacks is
    left out, because a view is no reason to end a run."""
    refunds = [(name.removeprefix("refunds/"), count) for name, count in step.items() if name.startswith("refunds/")]
    refunded = ", ".join(f"{count} {reason}" for reason, count in refunds if count)
    parts = [
        f"step {step['step'] + 1}/{steps}",
        _part(step, "reward {:.3f}", "reward/mean"),
        _part(step, "entropy {:.3f} (target {:.3g})", "entropy/policy", "entropy/target"),
        _part(step, "tokens {:,.0f}", "batch/tokens"),
        _part(step, "staleness {:.2f} (max {:.0f})", "staleness/head_mean", "staleness/head_max"),
        _part(step, "{:.1f} s (waited {:.1f})", "time/step_s", "time/wait_for_batch_s"),
        f"refunded {refunded}" if refunded else "",
    ]
    return "  ".join(part for part in parts if part)


def _part(step: Mapping[str, Any], words: str, *names: str) -> str:
    return words.format(*(step[name] for name in names)) if all(name in step for name in names) else ""
