"""The figure of a study: its curves over the training steps, or its settings over what is varied."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..leeway.reporting.drawing import BLUE, DASHED, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, SOFT, STYLE
from ..leeway.sweeping.intervals import interval
from .runner import Run
from .study import Setting, Study
from .verdict import METRICS

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, INK, GREY)
DASHES = ("-", DASHED, ":")
TARGET_LABEL = "target of the controller"
TITLES = {
    "entropy/policy": "Entropy e_k of the batch, nats a token",
    "evaluation/reward": "Accuracy, held-out prompts",
    "evaluation/entropy": "Entropy, held-out prompts, nats a token",
    "generated/length_mean": "Length of a response (tokens)",
    "generated/truncated_share": "Share of truncated responses",
    "entropy/coefficient": "Coefficient c of the controller",
    "logprob/ess": "Effective sample size of π/μ",
    "policy/clip_fraction": "Share of clipped tokens",
    "kl/reference": "k3 to the initial model",
    "staleness/token_mean": "Staleness of a trained token, versions",
}

SHARES = ("evaluation/reward", "logprob/ess", "generated/truncated_share", "policy/clip_fraction")


def draw(study: Study, runs: Mapping[Setting, Sequence[Run]]) -> bytes:
    """The figure as PNG. Every panel has the same lines; their names stand once, under the panels."""
    over_x = all(setting.x is not None for setting in study.settings)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(1, len(study.panels))
        for ax, name in zip(axes, study.panels, strict=True):
            (_over_x if over_x else _over_steps)(ax, name, study, runs)
            if study.target and "entropy" in name and "coefficient" not in name:
                ax.axhline(study.target, color=SOFT, lw=1.1, ls=":", label=TARGET_LABEL)
        # Not every setting has every column: the names are those of the panel with the most.
        handles, labels = max((ax.get_legend_handles_labels() for ax in axes), key=lambda found: len(found[1]))
        if TARGET_LABEL in labels:
            at = labels.index(TARGET_LABEL)  # errorbars are listed after lines
            handles.append(handles.pop(at))
            labels.append(labels.pop(at))
        figure.legend(handles, labels, loc="outside lower center", ncols=min(7, len(labels)), handlelength=2.6)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return file.getvalue()


def _over_steps(ax: Axes, column: str, study: Study, runs: Mapping[Setting, Sequence[Run]]) -> None:
    """Draw a line for each setting: the mean over its seeds, with a band from the lowest to the highest of them."""
    ax.set_title(TITLES[column], loc="left", size=10, weight="bold")
    for place, (setting, of) in enumerate(runs.items()):
        curves = np.array([run.series(column) for run in of])
        if np.isfinite(curves).any(axis=0).mean() > 0.5:  # evaluations have a point every few steps
            curves = _smooth(curves)
        there = np.isfinite(curves).any(axis=0)
        if not there.any():
            continue
        x, curves = np.flatnonzero(there) / setting.times, curves[:, there]
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS)]
        ax.plot(x, np.nanmean(curves, axis=0), color=colour, ls=dash, lw=1.8, label=setting.name)
        ax.fill_between(x, np.nanmin(curves, axis=0), np.nanmax(curves, axis=0), color=colour, alpha=0.12, lw=0)
    unequal = any(setting.times > 1 for setting in study.settings)
    ax.set_xlabel("training step" + (" (those that make more are squeezed)" if unequal else ""))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    ax.set_xlim(left=0)
    _from_zero(ax, column)


def _over_x(ax: Axes, column: str, study: Study, runs: Mapping[Setting, Sequence[Run]]) -> None:
    """Draw a line for each ``Setting.line``: mean and interval of the last third over ``Setting.x``, evenly spaced."""
    reduce = next(metric.reduce for metric in METRICS.values() if metric.column == column)
    ax.set_title(f"{TITLES[column]}", loc="left", size=10, weight="bold")
    places = {x: place for place, x in enumerate(sorted({setting.x for setting in runs if setting.x is not None}))}
    lines = list(dict.fromkeys(setting.line for setting in runs))
    colours = list(dict.fromkeys(line.split(", ")[0] for line in lines))
    for number, line in enumerate(lines):
        found = {s.x: interval([reduce(run.series(column)) for run in of]) for s, of in runs.items() if s.line == line}
        first, _, second = line.partition(", ")
        colour = COLOURS[colours.index(first)]
        dashed = [other.partition(", ")[2] for other in lines if other.split(", ")[0] == first].index(second)
        x = [places[each] + 0.04 * (number - len(lines) / 2) for each in found if each is not None]
        half = np.array([each.half if each.known else 0 for each in found.values()])
        mean = np.array([each.mean for each in found.values()])
        # Nothing drawn is below 0, and shares end at 1: an interval by Student's t knows nothing of that.
        above = np.minimum(half, 1 - mean) if column in SHARES else half
        ax.errorbar(
            x, mean, (np.minimum(half, mean), above), color=colour, ls=DASHES[dashed], lw=1.6, marker="o", ms=4,
            elinewidth=0.9, capsize=2, label=line,
        )  # fmt: skip
    ax.set_xticks(list(places.values()), [f"{x:g}" for x in places])
    ax.set_xlabel(study.x_label)
    _from_zero(ax, column)


def _from_zero(ax: Axes, column: str) -> None:
    if "reward" not in column and ax.dataLim.y0 >= 0:
        ax.set_ylim(0, 1.08 * ax.dataLim.y1 or 1)


def _smooth(curves: np.ndarray) -> np.ndarray:
    """The moving mean over five steps where there is a point for each step, because single batches are small. Only what
    was measured counts: a step that trained nothing has no batch."""
    width = 5
    if curves.shape[1] < 6 * width:
        return curves
    kernel, there = np.ones(width), np.isfinite(curves)
    total = [np.convolve(curve, kernel, mode="same") for curve in np.where(there, curves, 0.0)]
    weight = [np.convolve(each, kernel, mode="same") for each in there.astype(float)]
    return np.divide(total, weight, out=np.full(curves.shape, np.nan), where=np.array(weight) > 0)
