"""The report's picture of several sources of prompts, and their rows in its summary."""

from itertools import cycle

from matplotlib.axes import Axes

from .drawing import BLUE, GREEN, ORANGE, PURPLE, RED, SKY, end_labels, over_steps, smooth, subtitle
from .rundata import RunData, percent, sources

PREFIX = "source/"
"""Metrics that begin so are of one source."""


def draw(ax: Axes, run: RunData) -> None:
    """Each source's mean reward by step, and its part of the groups."""
    labels = []
    for name, colour in zip(sources(run), cycle((BLUE, ORANGE, GREEN, PURPLE, RED, SKY)), strict=False):
        rewards = smooth(run.series(f"source/{name}/reward_mean"))
        ax.plot(run.x, rewards, color=colour, lw=1.4, marker="o" if len(run.x) < 10 else "", ms=3)
        labels.append((float(rewards[-1]), name, colour))
    ax.set_ylabel("reward a response")
    groups = {name: run.total_of(f"source/{name}/share", "generated/groups") for name in sources(run)}
    total = sum(groups.values()) or 1.0
    subtitle(ax, "groups: " + ", ".join(f"{name} {percent(count / total)}" for name, count in groups.items()))
    over_steps(ax, run, from_zero=True)
    end_labels(ax, labels)
