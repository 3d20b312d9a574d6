"""A training step in one line, the same for ``leeway up`` and the learner's log. Pure."""

import json
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
        _staleness(step),
        _part(step, "{:.1f} s (waited {:.1f})", "time/step_s", "time/wait_for_batch_s"),
        _part(step, "MFU {:.1%}", "throughput/mfu"),
        f"refunded {refunded}" if refunded else "",
    ]
    return "  ".join(part for part in parts if part)


def _staleness(step: Mapping[str, Any]) -> str:
    """How old the trained groups were, and the bound that was in force: a turn of the dial shows in the next line."""
    words = _part(step, "staleness {:.2f} (oldest {:.0f}", "staleness/head_mean", "staleness/head_max")
    return words and words + _part(step, ", bound {:.0f}", "flow/max_staleness") + ")"


def sources_line(step: Mapping[str, Any]) -> str:
    """How each of several sources of prompts did in a training step, in words; empty where there is one."""
    words = []
    for name in [key.split("/")[1] for key in step if key.startswith("source/") and key.endswith("/share")]:
        parts = [
            _part(step, "{:.0%} of the tickets", f"source/{name}/share"),
            _part(step, "reward {:.3f}", f"source/{name}/reward_mean"),
            _part(step, "solved {:.0%}", f"source/{name}/solved_share"),
            _part(step, "{:,.0f} tokens a response", f"source/{name}/length_mean"),
        ]
        words.append(f"{name} " + ", ".join(filter(None, parts)))
    return "   ".join(words)


_HARDWARE = (
    "throughput/mfu",
    "throughput/hfu",
    "throughput/learner_tflops_per_gpu",
    "throughput/learner_tokens_per_s_per_gpu",
    "throughput/rollout_tokens_per_s_per_gpu",
    "memory/device_peak_bytes",
    "memory/host_peak_bytes",
    "memory/rollout_bytes",
)


def hardware_text(step: Mapping[str, Any]) -> str:
    """What the record of a training step says of the hardware, as a text for the run's state."""
    return json.dumps({name: step[name] for name in _HARDWARE if name in step})


def read_hardware(text: str) -> dict[str, float]:
    """What ``hardware_text`` wrote; what is no number by a name that it writes is left out."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    known = found if isinstance(found, dict) else {}
    return {name: known[name] for name in _HARDWARE if isinstance(known.get(name), int | float)}


def hardware_line(step: Mapping[str, Any]) -> str:
    """The line on the hardware of one training step; empty where nothing is known. Memory is in gigabytes (1e9)."""
    on_gpu = step.get("memory/device_peak_bytes") != step.get("memory/host_peak_bytes")
    learner = [
        _part(step, "MFU {:.1%}", "throughput/mfu"),
        _part(step, "{:,.1f} tokens/s a device", "throughput/learner_tokens_per_s_per_gpu"),
        _gigabytes(step, "{:.3g} GB of the device", "memory/device_peak_bytes") if on_gpu else "",
        _gigabytes(step, "{:.3g} GB of the host", "memory/host_peak_bytes"),
    ]
    rollout = [
        _part(step, "{:,.1f} tokens/s a device", "throughput/rollout_tokens_per_s_per_gpu"),
        _gigabytes(step, "{:.3g} GB of the host", "memory/rollout_bytes"),
    ]
    sides = {"learner": ", ".join(filter(None, learner)), "rollout": ", ".join(filter(None, rollout))}
    return "   ".join(f"{side} {words}" for side, words in sides.items() if words)


def _gigabytes(step: Mapping[str, Any], words: str, name: str) -> str:
    return words.format(step[name] / 1e9) if name in step else ""


def _part(step: Mapping[str, Any], words: str, *names: str) -> str:
    return words.format(*(step[name] for name in names)) if all(name in step for name in names) else ""
