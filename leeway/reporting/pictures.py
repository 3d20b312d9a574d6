"""The report's pictures: they take a run's data and make one PNG. They do not use pyplot, so nothing global is touched
and the caller's backend does not matter."""

import math
from collections.abc import Callable

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ...common.wording import counted
from . import answer_pictures, source_picture
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
    STYLE,
    empty,
    end_labels,
    from_to,
    line,
    over_steps,
    png,
    smooth,
    smoothing,
    stacked,
    subtitle,
)  # fmt: skip
from .panel import Panel
from .rundata import RunData, ends, mean, percent

PANELS: list[Panel] = []
"""All panels in reading order, two in a row."""


def panel(title: str, reading: str, *needs: str, of: str = "") -> Callable[[Callable[[Axes, RunData], None]], None]:
    """Make the function below one of ``PANELS``."""
    return lambda draw: PANELS.append(Panel(title, reading, needs, draw, of))


def panels_of(run: RunData) -> list[Panel]:
    """The panels that a run has."""
    return [each for each in PANELS if not each.of or run.keys(each.of)]


def draw(run: RunData) -> bytes:
    """All panels on one figure, as PNG."""
    with matplotlib.rc_context(STYLE):
        return png(figure_of(run))


def figure_of(run: RunData) -> Figure:
    """All panels on one figure. Call this inside an ``rc_context`` of ``STYLE``."""
    panels = panels_of(run)
    rows = math.ceil(len(panels) / 2)
    high = 3.55 * rows + 0.7
    figure = Figure(figsize=(12, high), dpi=150)
    axes = figure.subplots(rows, 2)
    figure.subplots_adjust(0.065, 0.5 / high, 0.91, 1 - 1.35 / high, hspace=0.54, wspace=0.42)
    figure.text(0.065, 1 - 0.32 / high, run.name, size=15, weight="bold", va="center")
    figure.text(0.065, 1 - 0.60 / high, run.headline(), size=9.5, color=SOFT, va="center")
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, each in zip(axes.flat, panels, strict=False):
        ax.set_title(each.title, loc="left", size=11, weight="bold", pad=24)
        if run.has(*each.needs):
            each.draw(ax, run)
        else:
            empty(ax, f"not recorded: {', '.join(each.needs)}")
    return figure


PART = "reward/part/"
"""Metrics that begin so are what each of several rewards gave."""


@panel(
    "Reward",
    "Blue is the mean over every graded response, which is what should rise; grey is the mean over the groups that were"
    " trained on, where those all right or all wrong are left out; the thin coloured lines, where the run has several"
    " rewards, are the mean of each one's own value; the black bars are the means of the first and the"
    " last steps. In every picture over steps a dotted grey line marks a resume, a dashed one the start of a stage, and"
    " a dotted violet one a turn of a live control, with its new value.",
    "reward/mean",
)
def _reward(ax: Axes, run: RunData) -> None:
    rewards, trained, x = run.series("reward/mean"), smooth(run.series("reward/trained_mean")), run.x
    count, first, last = ends(rewards)
    ax.plot(x, trained, color=SOFT, lw=1.2, marker="o" if len(x) < 10 else "", ms=3)
    line(ax, run, rewards, BLUE)
    for height, steps in ((first, x[:count]), (last, x[-count:])) if len(x) > 1 else ():
        ax.plot([steps[0] - 0.4, steps[-1] + 0.4], [height] * 2, color=INK, lw=1.4, solid_capstyle="butt", zorder=4)
    ax.set_ylabel("reward a response")
    from_to(ax, rewards)
    over_steps(ax, run, from_zero=True)
    for version in run.resumed_at():
        ax.annotate("resumed", (version - 0.5, 0.03), (3, 0), ax.get_xaxis_transform(), "offset points", color=SOFT)
    for number, (step, _) in enumerate(run.stage_changes(), start=2):
        at = (step - 0.5, 0.12)
        ax.annotate(f"stage {number}", at, (3, 0), ax.get_xaxis_transform(), "offset points", color=SOFT)
    parts = [
        (smooth(run.series(key)), key.removeprefix(PART), colour)
        for key, colour in zip(run.keys(PART), (GREEN, ORANGE, PURPLE, SKY, RED), strict=False)
    ]
    for values, _, colour in parts:
        ax.plot(x, values, color=colour, lw=0.9)
    names = [(float(values[-1]), name, colour) for values, name, colour in parts]
    end_labels(ax, [(last, f"all {last:.3f}", BLUE), (trained[-1], "trained on", SOFT), *names])


panel(
    "Reward by source",
    "The mean reward of each source of prompts, over every graded response; above, which share of the groups each had."
    " A source near 1 or near 0 gives no signal: its share is better spent elsewhere.",
    "reward/mean",
    of=source_picture.PREFIX,
)(source_picture.draw)
PANELS += answer_pictures.ANSWERS


@panel(
    "Policy entropy",
    "It should settle at the target: far below it exploration has collapsed, far above it the policy dissolves. The"
    " thin lines are of the tokens whose response is pushed up (better than its group) and of those pushed down.",
    "entropy/policy",
)
def _entropy(ax: Axes, run: RunData) -> None:
    entropy, target = run.series("entropy/policy"), run.series("entropy/target")
    line(ax, run, entropy, BLUE)
    ax.step(run.x, target, where="post", color=RED, lw=1.3, ls=DASHED)
    signs = []
    for name, colour in (("up", GREEN), ("down", ORANGE)):
        values = smooth(run.series(f"entropy/policy/{name}"))
        ax.plot(run.x, values, color=colour, lw=0.9)
        signs.append((values[-1], name, colour))
    ax.set_ylabel("nats a token")
    from_to(ax, entropy)
    over_steps(ax, run, from_zero=True)
    last = ends(entropy)[2]
    end_labels(ax, [(last, f"policy {last:.3f}", BLUE), (target[-1], f"target {target[-1]:.3g}", RED), *signs])


@panel(
    "Entropy controller",
    "The coefficient c climbs while the entropy is below its target and falls above it; a dot on the zero line is a"
    " step in which the entropy was high enough and no bonus (α) went into the loss.",
    "entropy/coefficient",
    "entropy/alpha",
)
def _controller(ax: Axes, run: RunData) -> None:
    coefficient, alpha, few = run.series("entropy/coefficient"), run.series("entropy/alpha"), len(run.x) < 150
    ax.plot(run.x, coefficient, color=GREEN, lw=1.4 if few else 0.8, zorder=3)
    ax.scatter(run.x, alpha, s=14 if few else 8, color=RED, zorder=2, linewidths=0, clip_on=False)
    subtitle(ax, f"applied (α > 0) in {percent(mean(np.where(np.isnan(alpha), np.nan, alpha > 0)))} of the steps")
    ax.set_ylim(0, 1.12 * np.nanmax([coefficient, alpha]) or 0.01)
    ax.set_ylabel("coefficient of the entropy")
    over_steps(ax, run)
    end_labels(ax, [(coefficient[-1], "coefficient c", GREEN), (alpha[-1], "α in the loss", RED)])


@panel(
    "Groups not trained on",
    "Each bar is work that was generated and not trained on, by reason, beside the dashed line of what was trained;"
    " zero_advantage growing means that the prompts have become too easy or are too hard.",
    "refunds/zero_advantage",
)
def _refunds(ax: Axes, run: RunData) -> None:
    refunds = run.refunds()
    if not refunds:
        empty(ax, "every group was")
        return
    colours = [ORANGE, RED, PURPLE, SKY, GREEN]  # there are five reasons
    named = {f"{reason} {np.nansum(counts):,.0f}": counts for reason, counts in refunds.items()}
    stacked(ax, run, named, colours, digits=0)
    trained = mean(run.series("batch/groups"))
    ax.axhline(trained, color=INK, lw=1.1, ls=DASHED)
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.15 * trained))
    over_steps(ax, run)
    ax.set_ylabel("groups a step")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    end_labels(ax, [(trained, f"trained: {trained:.0f}", INK)])


@panel(
    "Loss",
    "What the updates minimised, mean over a step's updates. It says little by its height, because advantages sum to"
    " zero in every group and the entropy bonus is in it; what is worth a look is a jump.",
    "loss",
)
def _loss(ax: Axes, run: RunData) -> None:
    loss = run.series("loss")
    line(ax, run, loss, BLUE)
    ax.axhline(0, color=GREY, lw=0.8)
    ax.set_ylabel("loss")
    from_to(ax, loss)
    over_steps(ax, run)


@panel(
    "Gradient norm",
    "The global norm before clipping, mean over a step's updates, in red the largest where a step has several; what is"
    " above the dashed line was clipped to it. A rise over many steps warns of a run that will fall apart.",
    "grad_norm",
)
def _gradient(ax: Axes, run: RunData) -> None:
    norm, largest = run.series("grad_norm"), run.series("grad_norm_max")
    line(ax, run, norm, BLUE)
    labels = [(smooth(norm)[-1], "mean", BLUE)]
    if run.has("grad_norm_max") and np.nanmax(largest - norm) > 0:
        line(ax, run, largest, RED)
        labels.append((smooth(largest)[-1], "largest", RED))
    ax.set_ylabel("L2 norm")
    over_steps(ax, run, from_zero=True)
    clip = run.config.train.grad_clip if run.config is not None else 0.0
    clipped = f"; clipped to {clip:g} in {percent(mean(np.fmax(norm, largest) > clip))} of the steps"
    subtitle(ax, f"mean {mean(norm):.3g}{clipped if clip else ''}{smoothing(len(norm))}")
    if clip and clip < ax.get_ylim()[1]:
        ax.axhline(clip, color=INK, lw=1.1, ls=DASHED)
        labels.append((clip, f"clip {clip:g}", INK))
    end_labels(ax, labels)


@panel(
    "Staleness of the trained groups",
    "How many versions old the oldest token of each group was when it was trained on; right of the dashed line (in red)"
    " is what the bound forbids.",
    "staleness/head_mean",
    "staleness/head_max",
)
def _staleness(ax: Axes, run: RunData) -> None:
    within, past = run.ages()
    total = max(1, (within + past).sum())
    ages, shares = range(len(within)), (within + past) / total
    ax.bar(ages, within / total, width=0.72, color=BLUE)
    ax.bar(ages, past / total, width=0.72, bottom=within / total, color=RED)
    for age in ages if len(ages) <= 12 else ():
        ax.annotate(percent(shares[age]), (age, shares[age]), (0, 3), textcoords="offset points", ha="center", size=8.5)
    ax.set_ylim(0, 1.15 * shares.max() or 1)
    ax.set_xlim(-0.6, max(2.6, ages[-1] + 0.95))
    _bounds(ax, run)
    average, worst = mean(run.series("staleness/head_mean")), np.nanmax(run.series("staleness/head_max"))
    past_of = f"{past.sum():,} of {counted(int(total), 'group')} past the bound of their step"
    subtitle(ax, f"mean {average:.2f}, worst {worst:.0f}; {past_of}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("head staleness (versions)")
    ax.set_ylabel("groups trained")


def _bounds(ax: Axes, run: RunData) -> None:
    """Draw a line just right of the bars that the bound allows; where η was turned, draw one for each of its values."""
    turns = run.turns(run.bounds())
    for place, value in enumerate(sorted({bound for _, bound in turns})):
        ax.axvline(value + 0.5, color=INK, lw=1.1, ls=DASHED)
        since = ", ".join(f"from step {step}" for step, bound in turns if bound == value)
        text = f"bound η = {value:.0f}" + (f"\n{since}" if len(turns) > 1 else "")
        at = (value + 0.5, 0.97 - 0.2 * place)
        ax.annotate(text, at, (5, 0), ax.get_xaxis_transform(), "offset points", va="top")


@panel(
    "Distance to the sampling policy, |log π − log μ|",
    "How far the policy had moved from the one that sampled, mean over the tokens; at staleness 0 what is left is the"
    " numerical difference between the sampler and the learner.",
    "logprob/abs_diff_mean",
    "logprob/abs_diff_max",
)
def _drift(ax: Axes, run: RunData) -> None:
    drift, largest = run.series("logprob/abs_diff_mean"), np.nanmax(run.series("logprob/abs_diff_max"))
    line(ax, run, drift, PURPLE)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_ylabel("nats, mean over tokens")
    subtitle(ax, f"mean over the run {mean(drift):.2g}, largest of one token {largest:.2g}{smoothing(len(drift))}")
    over_steps(ax, run, from_zero=True)


PANELS += answer_pictures.PASSES


@panel(
    "Throughput",
    "Response tokens that came in and that were trained on; the gap between the two is refunded work, and where the two"
    " together are low the learner's time (next picture) shows who waits.",
    "throughput/rollout_tokens_per_s",
    "throughput/learner_tokens_per_s",
)
def _throughput(ax: Axes, run: RunData) -> None:
    labels = []
    for who, colour in (("rollout", BLUE), ("learner", RED)):
        rates = run.series(f"throughput/{who}_tokens_per_s")
        line(ax, run, rates, colour)
        labels.append((smooth(rates)[-1], who, colour))
    rates_text = ", ".join(f"{who} {rate:,.0f}" for who, rate in run.rates().items())
    subtitle(ax, f"over the run: {rates_text} tokens/s{smoothing(len(run.x))}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    ax.set_ylabel("response tokens a second")
    over_steps(ax, run, from_zero=True)
    end_labels(ax, labels)


@panel(
    "Use of the learner's devices",
    "How much of the arithmetic that a device can do the passes used, while the learner trained: MFU counts what the"
    " model needs, HFU also what is computed again to save memory. Where the device's peak is not known, TFLOP/s of a"
    " device stand for it. What the learner waits for is not in it.",
    "throughput/learner_tflops_per_gpu",
)
def _devices(ax: Axes, run: RunData) -> None:
    rate, mfu, hfu = (run.series(f"throughput/{name}") for name in ("learner_tflops_per_gpu", "mfu", "hfu"))
    known = run.has("throughput/mfu")
    shown = mfu if known else rate
    labels = [(smooth(shown)[-1], "MFU" if known else "model", BLUE)]
    if known and np.nanmax(hfu - mfu) > 0:
        line(ax, run, hfu, GREY)
        labels.append((smooth(hfu)[-1], "HFU", SOFT))
    line(ax, run, shown, BLUE)
    if known:
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_ylabel("share of the peak" if known else "TFLOP/s a device")
    share = f"mean {percent(mean(mfu))}, " if known else ""
    subtitle(ax, f"{share}{mean(rate):.3g} TFLOP/s a device{smoothing(len(run.x))}")
    over_steps(ax, run, from_zero=True)
    end_labels(ax, labels)


@panel(
    "Memory",
    "The most that was held in each step: of the learner's devices (without a GPU its process stands for it) and of the"
    " hosts the largest rank; of rollout the largest worker at the end of the step, with the processes it has started."
    " What grows over many steps is a leak.",
    "memory/host_peak_bytes",
)
def _memory(ax: Axes, run: RunData) -> None:
    device, host, rank_0, rollout = (
        run.series(f"memory/{name}") / 1e9
        for name in ("device_peak_bytes", "host_peak_bytes", "host_peak_bytes/rank_0", "rollout_bytes")
    )
    shown = [(host, "learner's host", RED), (rollout, "rollout", GREEN)]
    if not np.array_equal(device, host, equal_nan=True):
        shown.insert(0, (device, "device", BLUE))
    if np.nanmax(1 - rank_0 / host, initial=0) > 0.01:  # the kernel's own counts are no more exact than that
        shown.append((rank_0, "host of rank 0", ORANGE))
    labels = []
    for values, name, colour in shown:
        if np.isfinite(values).any():
            line(ax, run, values, colour)
            labels.append((smooth(values)[-1], name, colour))
    subtitle(
        ax,
        ", ".join(f"{name} {np.nanmax(values):.3g}" for values, name, _ in shown if np.isfinite(values).any())
        + " GB at most",
    )
    ax.set_ylabel("GB (1e9 bytes)")
    over_steps(ax, run, from_zero=True)
    end_labels(ax, labels)


@panel(
    "Where the learner's time goes",
    "Orange is the learner waiting for groups: much of it asks for more rollout workers or a larger bound, none of it"
    " says that the learner is what limits the run.",
    "time/wait_for_batch_s",
    "time/train_s",
)
def _time(ax: Axes, run: RunData) -> None:
    parts = {name: seconds for name, seconds in run.time_parts().items() if seconds.any()}
    total = sum(seconds.sum() for seconds in parts.values())
    colours = {"wait": ORANGE, "train": BLUE, "publish": GREEN, "checkpoint": PURPLE, "other": GREY}
    named = {f"{name} {percent(seconds.sum() / total)}": seconds for name, seconds in parts.items()}
    stacked(ax, run, named, [colours[name] for name in parts], digits=1)
    over_steps(ax, run)
    ax.set_ylabel("seconds a step")
