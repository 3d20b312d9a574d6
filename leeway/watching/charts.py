"""Which metrics the page draws, in the order of the report's pictures. The page gets them as data. Pure."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..reporting.rundata import TIMES

OTHER = "time/other_s"
"""What is left of a step's time beside ``TIMES``; no metric of that name is written."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a chart. A ``*`` in its key stands for a name: there is a line for each name that a run has, and the
    name is added to its label."""

    key: str
    label: str
    colour: str = ""
    """A colour of the page's palette; empty where each name takes the next one."""
    dashed: bool = False
    setting: bool = False
    """Whether it is what was set, not measured: a dashed line in steps."""


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart; it stands on the page where the run has one of its keys."""

    title: str
    unit: str
    reading: str
    """How to read it, in one sentence."""
    lines: tuple[Line, ...]
    stacked: bool = False


CHARTS = (
    Chart(
        "Reward",
        "a response",
        "The mean over every graded response should rise; the mean over the groups that were trained on leaves out"
        " those all right or all wrong.",
        (
            Line("reward/mean", "all", "blue"),
            Line("reward/trained_mean", "trained on", "grey"),
            Line("reward/part/*", ""),
        ),
    ),
    Chart(
        "Reward by source",
        "a response",
        "A source near 1 or near 0 gives no signal: its share is better spent elsewhere.",
        (Line("source/*/reward_mean", ""),),
    ),
    Chart(
        "pass@k in training",
        "share",
        "How often one response solves its prompt, and how often some of k do; completed responses have also ended by"
        " themselves.",
        (Line("solved/pass_at_*", "pass@"), Line("solved/completed_share", "completed", "ink", dashed=True)),
    ),
    Chart(
        "Length by verdict",
        "sampled tokens",
        "Wrong responses that grow longer while right ones do not are rambling or cut off.",
        (Line("verdict/*/length_mean", ""),),
    ),
    Chart(
        "Policy entropy",
        "nats a token",
        "It should settle at the target: far below it exploration has collapsed, far above it the policy dissolves.",
        (Line("entropy/policy", "policy", "blue"), Line("entropy/target", "target", "red", setting=True)),
    ),
    Chart(
        "Entropy controller",
        "coefficient",
        "The coefficient climbs while the entropy is below its target; α is what went into the loss.",
        (Line("entropy/coefficient", "coefficient c", "green"), Line("entropy/alpha", "α in the loss", "red")),
    ),
    Chart(
        "Groups not trained on",
        "groups a step",
        "Work that was generated and not trained on, by reason; much zero_advantage means prompts that are too easy or"
        " too hard.",
        (Line("refunds/*", ""),),
        stacked=True,
    ),
    Chart(
        "Loss",
        "",
        "It says little by its height; what is worth a look is a jump.",
        (Line("loss", "loss", "blue"),),
    ),
    Chart(
        "Gradient norm",
        "L2 norm",
        "Before clipping. A rise over many steps warns of a run that will fall apart.",
        (Line("grad_norm_max", "largest", "red"), Line("grad_norm", "mean", "blue")),
    ),
    Chart(
        "Staleness of the trained groups",
        "versions",
        "How old the oldest token of a group was; no group may pass the bound, unless what passes it is masked or"
        " weighted.",
        (
            Line("staleness/head_mean", "mean", "blue"),
            Line("staleness/head_max", "oldest", "orange"),
            Line("flow/max_staleness", "bound η", "red", setting=True),
        ),
    ),
    Chart(
        "Distance to the sampling policy, |log π − log μ|",
        "nats, mean over tokens",
        "How far the policy had moved from the one that sampled; at staleness 0 what is left is numerical.",
        (Line("logprob/abs_diff_mean", "mean", "purple"),),
    ),
    Chart(
        "Divergence from the initial model",
        "nats a token",
        "It grows as long as something is learned; a leap without one in the reward is a policy that falls apart.",
        (Line("kl/reference", "KL", "blue"),),
    ),
    Chart(
        "Throughput",
        "response tokens a second",
        "What came in and what was trained on; the gap between the two is refunded work.",
        (
            Line("throughput/rollout_tokens_per_s", "rollout", "blue"),
            Line("throughput/learner_tokens_per_s", "learner", "red"),
        ),
    ),
    Chart(
        "Where the learner's time goes",
        "seconds a step",
        "Much waiting asks for more rollout workers or a larger bound; none says that the learner limits the run.",
        (
            Line(TIMES["wait"], "wait", "orange"),
            Line(TIMES["train"], "train", "blue"),
            Line(TIMES["publish"], "publish", "green"),
            Line(TIMES["checkpoint"], "checkpoint", "purple"),
            Line(OTHER, "other", "grey"),
        ),
        stacked=True,
    ),
    Chart(
        "Use of the learner's devices",
        "share of the peak",
        "How much of the arithmetic that a device can do was used while the learner trained.",
        (Line("throughput/mfu", "MFU", "blue"), Line("throughput/hfu", "HFU", "grey")),
    ),
    Chart(
        "Memory",
        "bytes",
        "The most that was held in each step. What grows over many steps is a leak.",
        (
            Line("memory/device_peak_bytes", "device", "blue"),
            Line("memory/host_peak_bytes", "learner's host", "red"),
            Line("memory/rollout_bytes", "rollout", "green"),
        ),
    ),
)

_SHOWN = re.compile("|".join(re.escape(line.key).replace(r"\*", r"[^/]+") for chart in CHARTS for line in chart.lines))


def shown(step: Mapping[str, Any]) -> dict[str, float]:
    """The values that some chart draws, of a line of ``metrics.jsonl``."""
    numbers = {key: value for key, value in step.items() if isinstance(value, int | float)}
    if "time/step_s" in numbers:
        numbers[OTHER] = max(0.0, numbers["time/step_s"] - sum(numbers.get(key, 0.0) for key in TIMES.values()))
    return {key: float(value) for key, value in numbers.items() if _SHOWN.fullmatch(key)}


def as_data() -> list[dict[str, Any]]:
    """``CHARTS`` as the page takes them."""
    return [asdict(chart) for chart in CHARTS]
