"""What the pictures share: colours and style, lines and bars over training steps, labels that do not overlap."""

import io
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .rundata import RunData, ends, mean

INK, SOFT, FAINT = "#1f2328", "#646c76", "#e4e7eb"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#a8558a", "#56b4e9", "#b8bec6",
)  # fmt: skip  # Okabe and Ito's palette: told apart by colour-blind readers too
DASHED: Any = (0, (4, 2))
DOTTED: Any = (0, (1, 1.5))

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.axisbelow": True,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": FAINT, "grid.linewidth": 0.8,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "xtick.major.size": 3, "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round", "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip

LABEL_WIDTH = 0.03
"""Share of the step axis that a label along a vertical line takes."""
MARGIN = 0.2
"""Inches around a picture."""
DRAWN_BARS = 120  # more steps than this are drawn as means over neighbours


def png(figure: Figure) -> bytes:
    """The figure as PNG, as large as what is drawn on it, so that nothing is cut off. Call this inside the
    ``rc_context`` of ``STYLE`` that the figure was drawn in."""
    file = io.BytesIO()
    canvas = FigureCanvasAgg(figure)
    # By the name "tight" matplotlib would lay out the whole figure once more beforehand, for a fifth of the time.
    box = figure.get_tightbbox(canvas.get_renderer()).padded(MARGIN)
    canvas.print_figure(file, format="png", bbox_inches=box, metadata={"Software": None})
    return file.getvalue()


def window(count: int) -> int:
    """Number of steps over which a smoothed point is the mean: odd, about a twentieth of the run; 1 in a short run."""
    return 1 if count < 10 else min(21, max(3, count // 20 | 1))


def smooth(values: np.ndarray) -> list[float]:
    """The centred moving mean; at the ends it takes the steps that are there."""
    half = window(len(values)) // 2
    return [mean(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]


def smoothing(count: int) -> str:
    return "" if window(count) == 1 else f"; line: mean over {window(count)}"


def line(ax: Axes, run: RunData, values: np.ndarray, colour: str) -> None:
    """Draw faintly what was measured, and its moving mean over it; in a short run, draw only the measured points."""
    if window(len(values)) == 1:
        ax.plot(run.x, values, color=colour, lw=1.6, marker="o", ms=4.5)
    else:
        ax.plot(run.x, values, color=colour, lw=0.9, alpha=0.32)
        ax.plot(run.x, smooth(values), color=colour, lw=2)


def stacked(ax: Axes, run: RunData, parts: dict[str, np.ndarray], colours: list[str], *, digits: int) -> None:
    """Draw stacked bars with a legend above them. Single towers (the first step's warm-up) are cut off, and their
    height is written there."""
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


def over_steps(ax: Axes, run: RunData, *, from_zero: bool = False) -> None:
    """Set up the step axis, with a dotted line where a learner started again and a dashed one where a stage began.
    ``from_zero`` starts the y axis at 0 where no value is below 0."""
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
    _dial(ax, run)


def _dial(ax: Axes, run: RunData) -> None:
    """Draw a line where a live control was turned, with its new value along the line. Where lines are too close for
    that, only the first has its words, with how many more there are."""
    (low, high), first = ax.get_xlim(), ax.get_ylim()[0]
    turns = [(version - 0.5, words) for version, words in run.dial() if low < version - 0.5 < high]
    labels: list[tuple[float, list[str]]] = []
    for at, words in turns:
        ax.axvline(at, color=PURPLE, lw=0.9, ls=DOTTED, zorder=1.5)
        if labels and at - labels[-1][0] < LABEL_WIDTH * (high - low):
            labels[-1][1].append(words)
        else:
            labels.append((at, [words]))
    for at, (shown, *more) in labels:
        text = shown + (f" and {len(more)} more" if more else "")
        ax.annotate(
            text, (at, first), (1.5, 4), textcoords="offset points", rotation=90, va="bottom", ha="left", size=7.5,
            color=PURPLE, bbox={"facecolor": "white", "alpha": 0.8, "pad": 0.8, "linewidth": 0},
            zorder=1.8,  # above bars, below lines
        )  # fmt: skip


def end_labels(ax: Axes, labels: list[tuple[float, str, str]]) -> None:
    """Write names right of the lines' ends, pushed apart where they would overlap."""
    known = sorted(label for label in labels if math.isfinite(label[0]))
    heights = apart(ax, [value for value, _, _ in known], 0.085)
    for height, (_, text, colour) in zip(heights, known, strict=True):
        ax.annotate(text, (1, height), (5, 0), "axes fraction", "offset points", color=colour, va="center")


def apart(ax: Axes, values: list[float], gap: float) -> list[float]:
    """Where labels of rising ``values`` stand, in shares of the axes' height, at least ``gap`` from each other."""
    low, high = ax.get_ylim()
    at = [(value - low) / (high - low) for value in values]
    for place in range(1, len(at)):
        at[place] = max(at[place], at[place - 1] + gap)
    for place in reversed(range(len(at))):
        at[place] = min(at[place], 1.0 - gap * (len(at) - 1 - place))
    return at


def subtitle(ax: Axes, text: str) -> None:
    """Write a line between the title and the picture."""
    ax.text(0, 1.045, text, transform=ax.transAxes, color=SOFT, size=8.5)


def empty(ax: Axes, why: str) -> None:
    ax.set_axis_off()
    subtitle(ax, why)


def from_to(ax: Axes, values: np.ndarray) -> None:
    count, first, last = ends(values)
    which = f"{count} steps" if count > 1 else "step"
    text = f"first {which} {first:.3f} → last {which} {last:.3f}" if len(values) > 1 else f"{last:.3f} in the only step"
    subtitle(ax, text + smoothing(len(values)))
