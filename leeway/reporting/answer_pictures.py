"""The report's pictures of what the policy answers: how many of a group are solved, how long each verdict's responses
are, and how far the policy moves on whole responses and from the initial model."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .drawing import (
    BLUE,
    DASHED,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SOFT,
    end_labels,
    line,
    over_steps,
    smooth,
    smoothing,
    subtitle,
)
from .panel import Panel
from .rundata import RunData, ends, mean, passes_at, percent

SOLVED, PASS, VERDICT, RATIO, KL = (
    "solved/groups_",
    "solved/pass_at_",
    "verdict/",
    "logprob/sequence_ratio_",
    "kl/reference",
)
"""How the metrics of each picture begin."""
COLOURS = {"correct": GREEN, "wrong": RED, "no_answer": ORANGE, "timeout": PURPLE}


def solved(ax: Axes, run: RunData) -> None:
    """How many groups had how many solved responses, in the first and in the last steps."""
    counts = np.nan_to_num([run.series(f"{SOLVED}{number}") for number in range(len(run.keys(SOLVED)))])
    steps, numbers = ends(counts[0])[0], np.arange(len(counts))
    of_steps = f"{steps} steps" if steps > 1 else "step"
    for part, offset, colour, name in (
        (counts[:, :steps], -0.2, GREY, f"first {of_steps}"),
        (counts[:, -steps:], 0.2, BLUE, f"last {of_steps}"),
    ):
        ax.bar(numbers + offset, part.sum(1) / max(1, part.sum()), width=0.4, color=colour, label=name)
    none, every = counts[0].sum() / counts.sum(), counts[-1].sum() / counts.sum()
    subtitle(ax, f"over the run {percent(none)} of the groups have none solved, {percent(every)} all")
    ax.legend(loc="upper center")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 4, 5, 8, 10]))
    ax.set_xlabel("solved responses of a group")
    ax.set_ylabel("groups")


def pass_at(ax: Axes, run: RunData) -> None:
    """pass@k for every k, and the share of completed responses."""
    labels, known = [], passes_at(run)
    for k in known:
        values = run.series(f"{PASS}{k}")
        if k in (known[0], known[-1]):
            line(ax, run, values, BLUE)
            labels.append((smooth(values)[-1], f"pass@{k} {ends(values)[2]:.3f}", BLUE))
        else:
            ax.plot(run.x, smooth(values), color=SKY, lw=0.9)
    completed = smooth(run.series("solved/completed_share"))
    ax.plot(run.x, completed, color=GREEN, lw=1.3, ls=DASHED)
    labels.append((completed[-1], "completed", GREEN))
    subtitle(ax, f"k = {', '.join(map(str, known))}{smoothing(len(run.x))}")
    ax.set_ylabel("share")
    over_steps(ax, run, from_zero=True)
    end_labels(ax, labels)


def lengths(ax: Axes, run: RunData) -> None:
    """The mean length of each verdict's responses."""
    labels, shares = [], []
    for key in sorted(key for key in run.keys(VERDICT) if key.endswith("/length_mean")):
        name = key.split("/")[1]
        colour, values = COLOURS.get(name, INK), smooth(run.series(key))
        ax.plot(run.x, values, color=colour, lw=1.6, marker="o" if len(run.x) < 10 else "", ms=3)
        labels.append((values[-1], name.replace("_", " "), colour))
        share = np.nan_to_num(run.series(f"{VERDICT}{name}/share"))
        shares.append(f"{name.replace('_', ' ')} {percent(mean(share))}")
    subtitle(ax, "responses: " + ", ".join(shares))
    ax.set_ylabel("sampled tokens a response")
    over_steps(ax, run, from_zero=True)
    end_labels(ax, labels)


def ratios(ax: Axes, run: RunData) -> None:
    """Mean, spread and extremes of the responses' geometric-mean ratios."""
    middle, spread, high, low = (run.series(f"{RATIO}{name}") for name in ("mean", "std", "max", "min"))
    ax.fill_between(run.x, middle - spread, middle + spread, color=PURPLE, alpha=0.18, linewidth=0)
    line(ax, run, middle, PURPLE)
    for values in (high, low):
        ax.plot(run.x, values, color=SOFT, lw=0.9)
    ax.axhline(1, color=INK, lw=0.8, ls=DASHED)
    ax.set_ylabel("π_old/μ of a response")
    subtitle(ax, f"spread {mean(spread):.2g}, from {np.nanmin(low):.3g} to {np.nanmax(high):.3g}{smoothing(len(high))}")
    over_steps(ax, run)
    end_labels(ax, [(smooth(middle)[-1], "mean", PURPLE), (high[-1], "largest", SOFT), (low[-1], "smallest", SOFT)])


def to_reference(ax: Axes, run: RunData) -> None:
    """The divergence from the initial model, at the steps that measured it."""
    values, x = run.series(KL), np.array(run.x)
    there = np.isfinite(values)
    ax.plot(x[there], values[there], color=BLUE, lw=1.6, marker="o" if there.sum() < 40 else "", ms=3.5)
    ax.set_ylabel("nats a token")
    subtitle(ax, f"last measured {values[there][-1]:.3g}, at step {x[there][-1]}")
    over_steps(ax, run, from_zero=True)


ANSWERS = [
    Panel(
        "Solved responses of a group",
        "How many groups had how many of their responses solved, in the first and in the last steps, whether or not"
        " they were trained on. The outermost bars give no signal: where the left one grows the prompts are too hard"
        " for the policy, where the right one does they are too easy.",
        (),
        solved,
        SOLVED,
    ),
    Panel(
        "pass@k in training",
        "The lowest blue line is how often one response solves its prompt, the highest how often some response of a"
        " group does. Where the lowest rises and the highest falls, the policy gets surer of what it could do already"
        " and finds less that is new. The dashed green line counts what is solved and has ended by itself.",
        ("solved/completed_share",),
        pass_at,
        PASS,
    ),
    Panel(
        "Length by verdict",
        "Wrong responses that grow longer while right ones do not are rambling or cut off; a verdict that is hardly"
        " ever given has a ragged line.",
        (),
        lengths,
        VERDICT,
    ),
]
PASSES = [
    Panel(
        "Ratios of whole responses",
        "The geometric mean of π_old/μ over each response: mean, spread (the band) and extremes. At staleness 0 all are"
        " 1, to rounding; a mean that leaves 1 there says that sampler and learner compute something else.",
        tuple(f"{RATIO}{name}" for name in ("mean", "std", "max", "min")),
        ratios,
        RATIO,
    ),
    Panel(
        "Divergence from the initial model",
        "KL (k3, mean over tokens) of the policy from where it began. It grows as long as something is learned; a leap"
        " in it, with no leap in the reward, is a policy that falls apart.",
        (KL,),
        to_reference,
        KL,
    ),
]
