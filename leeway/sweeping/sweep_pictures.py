"""A sweep's pictures: the results of each setting, their course, and the frontier. Bars are 95 % intervals."""

import math
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ..reporting.drawing import (
    BLUE,
    DASHED,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SOFT,
    STYLE,
    apart,
    png,
    smooth,
    subtitle,
)
from .grid import Setting
from .intervals import Interval
from .sweepdata import GOALS, Run, Sweep

FAMILY_COLOURS = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES: tuple[Any, ...] = ("-", DASHED, ":", "-.")

RESULTS = (
    ("steps_per_hour", "Throughput", "training steps an hour"),
    ("head_staleness", "Staleness of the trained groups", "versions, mean of the groups' oldest tokens"),
    ("entropy", "Policy entropy", "nats a token, last third of the steps"),
    ("idle_share", "The learner's waiting", "share of its time"),
    ("reward_at_groups", "Reward at equal samples", "as many groups trained"),
    ("reward_at_time", "Reward at equal time", "after as many seconds of training"),
)
CURVES = (
    ("reward/mean", "Reward over samples", "groups", "groups trained"),
    ("reward/mean", "Reward over time", "seconds", "minutes since the first training step began"),
    ("entropy/policy", "Entropy over samples", "groups", "groups trained"),
    ("entropy/policy", "Entropy over time", "seconds", "minutes since the first training step began"),
)
OVER_UPDATES = (
    ("reward/mean", "Reward over updates", "updates", "optimizer updates"),
    ("entropy/policy", "Entropy over updates", "updates", "optimizer updates"),
)
"""Further curves, where a training step is more than one update."""


def draw(sweep: Sweep) -> bytes:
    """Results by setting and curves of all settings on one figure, as PNG."""
    with matplotlib.rc_context(STYLE):
        return png(figure_of(sweep))


def figure_of(sweep: Sweep) -> Figure:
    """The figure of ``draw``. Call this inside an ``rc_context`` of ``STYLE``."""
    several = any(run.updates[-1] > len(run.updates) for run in sweep.runs.values())
    curves = CURVES + OVER_UPDATES if several else CURVES
    rows = math.ceil((len(RESULTS) + len(curves)) / 2)
    high = 3.5 * rows + 1.5
    figure = Figure(figsize=(12, high), dpi=110)
    axes = figure.subplots(rows, 2).flat
    figure.subplots_adjust(0.065, 1.1 / high, 0.98, 1 - 1.4 / high, hspace=0.55, wspace=0.2)
    _heading(figure, sweep, high)
    for key, title, unit in RESULTS:
        _result(next(axes), sweep, key, title, unit)
    for metric, title, position, label in curves:
        _curves(next(axes), sweep, metric, title, position, label)
    _curve_legend(figure, sweep, 0.3 / high)
    return figure


def draw_frontier(sweep: Sweep) -> bytes:
    """Throughput, reward and entropy of every setting on one picture, as PNG. Filled marks are not dominated. A line
    joins the settings of a family that no other one of it beats in both throughput and reward, by the means."""
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "both"}):
        return png(figure_of_frontier(sweep))


def figure_of_frontier(sweep: Sweep) -> Figure:
    """The figure of ``draw_frontier``. Call this inside its ``rc_context``."""
    figure = Figure(figsize=(11, 7.2), dpi=120)
    ax = figure.add_axes((0.075, 0.19, 0.6, 0.65))
    figure.text(0.075, 0.955, f"{sweep.name}: throughput, reward, entropy", size=14, weight="bold", va="center")
    figure.text(
        0.075,
        0.915,
        _seeds(sweep) + ". Up and right is better, dark is more entropy; line: not beaten in both, by the means.",
        color=SOFT,
        va="center",
    )
    frontier, families = sweep.frontier(), sweep.families()
    means = {setting: [sweep.mean(setting, goal).mean for goal in GOALS] for setting in sweep.settings}
    entropies = np.array([entropy for *_, entropy in means.values()])
    shades = ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.12, 1.0, 256)))
    norm = Normalize(np.nanmin(entropies), max(np.nanmax(entropies), np.nanmin(entropies) + 1e-6))
    for place, members in enumerate(families.values()):
        joined = _unbeaten([(means[setting][0], means[setting][1]) for setting in members])
        ax.plot([x for x, _ in joined], [y for _, y in joined], color=SOFT, lw=1.4, ls=LINES[place % 4], zorder=2)
        for setting in members:
            x, y, entropy = means[setting]
            xerr, yerr = (_half(sweep.mean(setting, goal)) for goal in GOALS[:2])
            colour, filled = shades(norm(entropy)), setting in frontier
            ax.errorbar(x, y, yerr, xerr, fmt="none", ecolor=colour, elinewidth=1, alpha=0.75, zorder=3)
            ax.scatter(
                x, y, s=95, marker=MARKERS[place % 6], color=colour if filled else "white", edgecolors=colour,
                linewidths=1.8, zorder=4,
            )  # fmt: skip
    _named(ax, {setting.label: (x, y) for setting, (x, y, _) in means.items()})
    ax.set_xlabel("training steps an hour")
    ax.set_ylabel("reward at equal samples")
    scale = matplotlib.cm.ScalarMappable(norm, shades)
    bar = figure.add_axes(
        (0.075, 0.085, 0.6, 0.016), label="colour bar"
    )  # below: right of the axes are names of any length
    figure.colorbar(scale, cax=bar, orientation="horizontal", label="policy entropy, nats a token")
    ax.legend(handles=_frontier_legend(families), loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5)
    return figure


def _heading(figure: Figure, sweep: Sweep, high: float) -> None:
    figure.text(0.065, 1 - 0.32 / high, sweep.name, size=15, weight="bold", va="center")
    figure.text(0.065, 1 - 0.60 / high, _seeds(sweep) + "; dots: single runs", size=9.5, color=SOFT, va="center")
    handles = [
        Line2D([], [], color=FAMILY_COLOURS[place % 6], marker=MARKERS[place % 6], ls=LINES[place % 4], label=family)
        for place, family in enumerate(sweep.families())
        if family
    ]
    if handles:
        figure.legend(handles=handles, loc="center right", bbox_to_anchor=(0.985, 1 - 0.5 / high), ncols=3)


def _seeds(sweep: Sweep) -> str:
    count = len(sweep.seeds)
    bars = "bars: 95 % intervals (Student's t)" if count > 1 else "no intervals"
    return f"{len(sweep.settings)} settings, {count} seed{'s' if count > 1 else ''}; {bars}"


def _result(ax: Axes, sweep: Sweep, key: str, title: str, unit: str) -> None:
    """Draw one measure over the first key, one line for each family; single runs are small dots."""
    labels = list(sweep.grid[0].values) if sweep.grid else [""]
    families = sweep.families()
    ax.set_title(title, loc="left", size=11, weight="bold", pad=20)
    subtitle(ax, unit)
    ax.set_ylabel(unit.partition(",")[0] if not key.startswith("reward") else "reward a response")
    for place, members in enumerate(families.values()):
        colour = FAMILY_COLOURS[place % len(FAMILY_COLOURS)]
        at = np.array([labels.index(_first(s)) + 0.12 * (place - (len(families) - 1) / 2) for s in members])
        found = [sweep.mean(setting, key) for setting in members]
        halves = [each.half if each.known else math.nan for each in found]
        ax.errorbar(
            at, [each.mean for each in found], halves, color=colour, marker=MARKERS[place % 6], ms=5.5, lw=1.6,
            elinewidth=1.2, capsize=3, ls=LINES[place % 4], zorder=3,
        )  # fmt: skip
        for x, setting in zip(at, members, strict=True):
            values = sweep.values(setting, key)
            ax.scatter([x + 0.05] * len(values), values, s=9, color=colour, alpha=0.6, linewidths=0, zorder=2)
    ax.set_xticks(range(len(labels)), labels)
    ax.set_xlim(-0.5, len(labels) - 0.5)
    ax.set_xlabel(sweep.grid[0].label if sweep.grid else "the one setting")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.5g}")
    if key in ("steps_per_hour", "head_staleness", "idle_share", "entropy"):
        ax.set_ylim(0, 1.05 * ax.get_ylim()[1])


def _curves(ax: Axes, sweep: Sweep, metric: str, title: str, position: str, label: str) -> None:
    """Draw the mean over the seeds of a metric's smoothed course, as far as every seed of the setting has come."""
    ax.set_title(title, loc="left", size=11, weight="bold", pad=20)
    subtitle(ax, "mean over the seeds, smoothed")
    looks = _looks(sweep)
    for setting in sweep.settings:
        runs = [run for (of, _), run in sweep.runs.items() if of == setting]
        x, y = _mean_course(runs, metric, position)
        scale = 60.0 if position == "seconds" else 1.0
        colour, line = looks[setting]
        ax.plot(x / scale, y, color=colour, ls=line, lw=1.5)
    ax.set_xlabel(label)
    ax.set_ylabel("reward a response" if metric.startswith("reward") else "nats a token")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 2.5, 5, 10]))
    ax.set_xlim(left=0)
    if metric.startswith("entropy"):
        ax.set_ylim(0, 1.06 * ax.dataLim.y1)


def _mean_course(runs: list[Run], metric: str, position: str) -> tuple[np.ndarray, np.ndarray]:
    places: list[np.ndarray] = [getattr(run, position) for run in runs]
    x = np.linspace(max(place[0] for place in places), min(place[-1] for place in places), 120)
    courses = [np.interp(x, place, smooth(run.data.series(metric))) for place, run in zip(places, runs, strict=True)]
    return x, np.mean(courses, axis=0)


def _looks(sweep: Sweep) -> dict[Setting, tuple[Any, Any]]:
    """(colour, line style) of every setting: the colour stands for the first key's value, the line for the family."""
    firsts = list(dict.fromkeys(_first(setting) for setting in sweep.settings))
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, len(firsts)))
    families = list(sweep.families().values())
    return {
        setting: (shades[firsts.index(_first(setting))], LINES[place % 4])
        for place, members in enumerate(families)
        for setting in members
    }


def _curve_legend(figure: Figure, sweep: Sweep, at: float) -> None:
    """Write below the curves what their colours and lines stand for."""
    looks = _looks(sweep)
    colours = {_first(setting): colour for setting, (colour, _) in looks.items()}
    key = sweep.grid[0].label if sweep.grid else ""
    handles = [Line2D([], [], color=colour, lw=2.5, label=f"{key}={value}") for value, colour in colours.items()]
    for place, family in enumerate(sweep.families()):
        handles += [Line2D([], [], color=SOFT, lw=1.5, ls=LINES[place % 4], label=family)] if family else []
    if len(handles) > 1:
        figure.legend(handles=handles, loc="center", bbox_to_anchor=(0.52, at), ncols=min(len(handles), 7))


def _first(setting: Setting) -> str:
    return setting.values[0] if setting.values else ""


def _unbeaten(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points, from left to right, that no other point reaches in both coordinates."""
    return sorted((x, y) for x, y in points if not any((a, b) != (x, y) and a >= x and b >= y for a, b in points))


def _half(found: Interval) -> float:
    return found.half if found.known else 0.0


def _named(ax: Axes, points: dict[str, tuple[float, float]]) -> None:
    """Write names right of the axes, pushed apart, each with a thin line to its point."""
    order = sorted((name for name in points if all(map(math.isfinite, points[name]))), key=lambda name: points[name][1])
    heights = apart(ax, [points[name][1] for name in order], 0.042)
    for height, name in zip(heights, order, strict=True):
        ax.annotate(
            name, points[name], (1.03, height), "data", "axes fraction", va="center", size=8.5, color=INK,
            arrowprops={"arrowstyle": "-", "color": FAINT, "lw": 1.0, "shrinkA": 2, "shrinkB": 5, "relpos": (0, 0.5)},
            zorder=1,
        )  # fmt: skip


def _frontier_legend(families: dict[str, list[Setting]]) -> list[Line2D]:
    def mark(marker: str, face: str, label: str) -> Line2D:
        return Line2D([], [], ls="", marker=marker, ms=8, color=SOFT, markerfacecolor=face, mew=1.6, label=label)

    named = [mark(MARKERS[place % 6], SOFT, family) for place, family in enumerate(families) if family]
    return [*named, mark("o", SOFT, "not dominated"), mark("o", "white", "shown to be dominated")]
