"""The report's pictures: a run's data in, one PNG out. No pyplot: nothing global is touched, and the caller's backend
does not matter."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from .rundata import RunData, ends, mean, percent

INK, SOFT, FAINT = "#1f2328", "#646c76", "#e4e7eb"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#a8558a", "#56b4e9", "#b8bec6",
)  # fmt: skip  # Okabe and Ito's palette: told apart by colour-blind readers too
DASHED: Any = (0, (4, 2))

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.axisbelow": True,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": FAINT, "grid.linewidth": 0.8,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "xtick.major.size": 3, "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round", "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip

DRAWN_BARS = 120  # more steps than this are drawn as means over neighbours


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of the figure."""

    title: str
    reading: str
    """How to read it, in one sentence."""
    needs: tuple[str, ...]
    """Metrics without which it stays empty."""
    draw: Callable[[Axes, RunData], None]


PANELS: list[Panel] = []
"""In reading order, two a row."""


def panel(title: str, reading: str, *needs: str) -> Callable[[Callable[[Axes, RunData], None]], None]:
    """Make the function below one of ``PANELS``."""
    return lambda draw: PANELS.append(Panel(title, reading, needs, draw))


def draw(run: RunData) -> bytes:
    """All panels on one figure, as PNG."""
    with matplotlib.rc_context(STYLE):
        rows = math.ceil(len(PANELS) / 2)
        high = 3.55 * rows + 0.7
        figure = Figure(figsize=(12, high), dpi=150)
        axes = figure.subplots(rows, 2)
        figure.subplots_adjust(0.065, 0.5 / high, 0.91, 1 - 1.35 / high, hspace=0.54, wspace=0.42)
        figure.text(0.065, 1 - 0.32 / high, run.name, size=15, weight="bold", va="center")
        figure.text(0.065, 1 - 0.60 / high, run.headline(), size=9.5, color=SOFT, va="center")
        for ax, each in zip(axes.flat, PANELS, strict=True):
            ax.set_title(each.title, loc="left", size=11, weight="bold", pad=24)
            if run.has(*each.needs):
                each.draw(ax, run)
            else:
                _empty(ax, f"not recorded: {', '.join(each.needs)}")
        return png(figure)


def png(figure: Figure) -> bytes:
    """The figure as PNG; inside the ``rc_context`` of ``STYLE`` that it was drawn in."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


@panel(
    "Reward",
    "Blue is the mean over every graded response, which is what should rise; grey is the mean over the groups that were"
    " trained on, where those all right or all wrong are left out; the black bars are the means of the first and the"
    " last steps, a dotted line marks a resume and a dashed one the start of a stage.",
    "reward/mean",
)
def _reward(ax: Axes, run: RunData) -> None:
    rewards, trained, x = run.series("reward/mean"), smooth(run.series("reward/trained_mean")), run.x
    count, first, last = ends(rewards)
    ax.plot(x, trained, color=SOFT, lw=1.2, marker="o" if len(x) < 10 else "", ms=3)
    _line(ax, run, rewards, BLUE)
    for height, steps in ((first, x[:count]), (last, x[-count:])) if len(x) > 1 else ():
        ax.plot([steps[0] - 0.4, steps[-1] + 0.4], [height] * 2, color=INK, lw=1.4, solid_capstyle="butt", zorder=4)
    _from_to(ax, rewards)
    _over_steps(ax, run, from_zero=True)
    for version in run.resumed_at():
        ax.annotate("resumed", (version - 0.5, 0.03), (3, 0), ax.get_xaxis_transform(), "offset points", color=SOFT)
    for number, (step, _) in enumerate(run.stage_changes(), start=2):
        at = (step - 0.5, 0.12)
        ax.annotate(f"stage {number}", at, (3, 0), ax.get_xaxis_transform(), "offset points", color=SOFT)
    _end_labels(ax, [(last, f"all {last:.3f}", BLUE), (trained[-1], "trained on", SOFT)])


@panel(
    "Policy entropy",
    "It should settle at the target: far below it exploration has collapsed, far above it the policy dissolves.",
    "entropy/policy",
)
def _entropy(ax: Axes, run: RunData) -> None:
    entropy, target = run.series("entropy/policy"), run.series("entropy/target")
    _line(ax, run, entropy, BLUE)
    ax.step(run.x, target, where="post", color=RED, lw=1.3, ls=DASHED)
    ax.set_ylabel("nats a token")
    _from_to(ax, entropy)
    _over_steps(ax, run, from_zero=True)
    last = ends(entropy)[2]
    _end_labels(ax, [(last, f"policy {last:.3f}", BLUE), (target[-1], f"target {target[-1]:.3g}", RED)])


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
    _over_steps(ax, run)
    _end_labels(ax, [(coefficient[-1], "coefficient c", GREEN), (alpha[-1], "α in the loss", RED)])


@panel(
    "Groups not trained on",
    "Each bar is work that was generated and not trained on, by reason, beside the dashed line of what was trained;"
    " zero_advantage growing means that the prompts have become too easy or are too hard.",
    "refunds/zero_advantage",
)
def _refunds(ax: Axes, run: RunData) -> None:
    refunds = run.refunds()
    if not refunds:
        _empty(ax, "every group was")
        return
    colours = [ORANGE, RED, PURPLE, SKY, GREEN]  # there are five reasons
    named = {f"{reason} {np.nansum(counts):,.0f}": counts for reason, counts in refunds.items()}
    _stacked(ax, run, named, colours, digits=0)
    trained = mean(run.series("batch/groups"))
    ax.axhline(trained, color=INK, lw=1.1, ls=DASHED)
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.15 * trained))
    _over_steps(ax, run)
    ax.set_ylabel("groups a step")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _end_labels(ax, [(trained, f"trained: {trained:.0f}", INK)])


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
    past_of = f"{past.sum():,} of {total:,} groups past the bound of their step"
    subtitle(ax, f"mean {average:.2f}, worst {worst:.0f}; {past_of}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("head staleness (versions)")
    ax.set_ylabel("groups trained")


def _bounds(ax: Axes, run: RunData) -> None:
    """A line just right of the bars that the bound allows; where η was turned, one for each of its values."""
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
    _line(ax, run, drift, PURPLE)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    subtitle(ax, f"mean over the run {mean(drift):.2g}, largest of one token {largest:.2g}{_smoothing(len(drift))}")
    _over_steps(ax, run, from_zero=True)


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
        _line(ax, run, rates, colour)
        labels.append((smooth(rates)[-1], who, colour))
    rates_text = ", ".join(f"{who} {rate:,.0f}" for who, rate in run.rates().items())
    subtitle(ax, f"over the run: {rates_text} tokens/s{_smoothing(len(run.x))}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _over_steps(ax, run, from_zero=True)
    _end_labels(ax, labels)


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
    _stacked(ax, run, named, [colours[name] for name in parts], digits=1)
    _over_steps(ax, run)
    ax.set_ylabel("seconds a step")


# --- parts of panels -------------------------------------------------------------------------------------------------


def _window(count: int) -> int:
    """Steps a smoothed point is the mean of: odd, about a twentieth of the run; 1 (none) in a short one."""
    return 1 if count < 10 else min(21, max(3, count // 20 | 1))


def smooth(values: np.ndarray) -> list[float]:
    """Centred moving mean; at the ends over the steps that are there."""
    half = _window(len(values)) // 2
    return [mean(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]


def _smoothing(count: int) -> str:
    return "" if _window(count) == 1 else f"; line: mean over {_window(count)}"


def _line(ax: Axes, run: RunData, values: np.ndarray, colour: str) -> None:
    """What was measured, faint, and its moving mean over it; in a short run the measured points alone."""
    if _window(len(values)) == 1:
        ax.plot(run.x, values, color=colour, lw=1.6, marker="o", ms=4.5)
    else:
        ax.plot(run.x, values, color=colour, lw=0.9, alpha=0.32)
        ax.plot(run.x, smooth(values), color=colour, lw=2)


def _stacked(ax: Axes, run: RunData, parts: dict[str, np.ndarray], colours: list[str], *, digits: int) -> None:
    """Stacked bars, a legend above them, and single towers (the first step's warm-up) cut off with their height."""
    size = math.ceil(len(run.x) / DRAWN_BARS)
    cuts = range(0, len(run.x), size)
    x = [mean(np.array(run.x[at : at + size])) for at in cuts]
    bottom = np.zeros(len(x))
    for (name, values), colour in zip(parts.items(), colours, strict=False):
        heights = np.array([np.nan_to_num(values[at : at + size]).mean() for at in cuts])
        ax.bar(x, heights, width=0.86 * min(size, len(run.x)), bottom=bottom, color=colour, label=name, linewidth=0)
        bottom += heights
    usual = sorted(bottom)[int(0.9 * (len(bottom) - 1))]
    if max(bottom) > 2.5 * usual > 0:
        ax.set_ylim(0, 1.8 * usual)
        for at, height in zip(x, bottom, strict=True):
            if height > 1.8 * usual:
                text = f"{height:,.{digits}f} ↑"
                ax.annotate(text, (at, 0.99), (4, 0), ax.get_xaxis_transform(), "offset points", va="top", size=8)
    ax.legend(
        loc="lower left", bbox_to_anchor=(-0.008, 0.985), ncols=len(parts), borderpad=0, columnspacing=1.0,
        handlelength=0.8, handleheight=0.8, handletextpad=0.4,
    )  # fmt: skip
    ax.set_xlabel("training step" + (f" (a bar is the mean of {size} steps)" if size > 1 else ""))


def _over_steps(ax: Axes, run: RunData, *, from_zero: bool = False) -> None:
    """The step axis, with a dotted line where a learner started again and a dashed one where a stage began;
    ``from_zero`` starts the y axis at 0 where no value is below it."""
    first, last = run.x[0], run.x[-1]
    margin = max(0.6, 0.015 * (last - first))
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=7, steps=[1, 2, 5, 10]))
    ax.set_xlabel(ax.get_xlabel() or "training step")
    if from_zero and ax.dataLim.y0 >= 0 < ax.dataLim.y1:
        ax.set_ylim(0, 1.06 * ax.dataLim.y1)
    for version in run.resumed_at():
        ax.axvline(version - 0.5, color=SOFT, lw=0.9, ls=":")
    for step, _ in run.stage_changes():
        ax.axvline(step - 0.5, color=SOFT, lw=0.9, ls=DASHED)


def _end_labels(ax: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Names right of the lines' ends, pushed apart where they would overlap."""
    (low, high), gap = ax.get_ylim(), 0.085
    known = sorted(label for label in labels if math.isfinite(label[0]))
    at = [(value - low) / (high - low) for value, _, _ in known]
    for place in range(1, len(at)):
        at[place] = max(at[place], at[place - 1] + gap)
    for place in reversed(range(len(at))):
        at[place] = min(at[place], 1.0 - gap * (len(at) - 1 - place))
    for height, (_, text, colour) in zip(at, known, strict=True):
        ax.annotate(text, (1, height), (5, 0), "axes fraction", "offset points", color=colour, va="center")


def subtitle(ax: Axes, text: str) -> None:
    """A line between the title and the picture."""
    ax.text(0, 1.045, text, transform=ax.transAxes, color=SOFT, size=8.5)


def _empty(ax: Axes, why: str) -> None:
    ax.set_axis_off()
    subtitle(ax, why)


def _from_to(ax: Axes, values: np.ndarray) -> None:
    count, first, last = ends(values)
    which = f"{count} steps" if count > 1 else "step"
    text = f"first {which} {first:.3f} → last {which} {last:.3f}" if len(values) > 1 else f"{last:.3f} in the only step"
    subtitle(ax, text + _smoothing(len(values)))
