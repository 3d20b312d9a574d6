"""Pictures of evaluations: of one result, and of results over a run's versions. They are PNGs, as in ``pictures``."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ...common.wording import counted
from .drawing import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, SOFT, STYLE, png, subtitle

ENDINGS = {"correct": GREEN, "not correct": GREY, "truncated": RED}
"""How a response ended, bottom to top of the bars."""
LINES = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY)


def of_one(name: str, result: dict[str, Any]) -> bytes:
    """One row for each benchmark: pass@k with its interval, how often each problem is solved, and how long responses
    are. Returns PNG."""
    with matplotlib.rc_context(STYLE):
        return png(figure_of_one(name, result))


def figure_of_one(name: str, result: dict[str, Any]) -> Figure:
    """The figure of ``of_one``. Call this inside an ``rc_context`` of ``STYLE``."""
    found = {key: each for key, each in result["benchmarks"].items() if "avg_at_n" in each}
    high = 3.2 * max(1, len(found)) + 0.75
    figure = Figure(figsize=(12, high), dpi=150)
    axes = figure.subplots(max(1, len(found)), 3, squeeze=False)
    figure.subplots_adjust(0.06, 0.55 / high, 0.975, 1 - 1.3 / high, hspace=0.62, wspace=0.24)
    figure.text(0.06, 1 - 0.3 / high, name, size=15, weight="bold", va="center")
    asked = result["asked"]
    words = f"τ {asked['temperature']:g}, top_p {asked['top_p']:g}, at most {asked['max_tokens']:,} tokens, seed "
    text = f"{words}{asked['seed']}; bands and brackets: 95 % bootstrap over problems"
    figure.text(0.06, 1 - 0.56 / high, text, size=9.5, color=SOFT, va="center")
    for row, (benchmark, each) in zip(axes, found.items(), strict=False):
        _pass(row[0], benchmark, each)
        _solved(row[1], each)
        _lengths(row[2], each)
    if not found:
        for ax in axes[0]:
            ax.set_axis_off()
    return figure


def _pass(ax: Axes, benchmark: str, each: dict[str, Any]) -> None:
    curve = sorted((int(k), estimate) for k, estimate in each["pass_at_k"].items())
    k, value = [k for k, _ in curve], [estimate["value"] for _, estimate in curve]
    low, high = ([estimate[end] for _, estimate in curve] for end in ("low", "high"))
    ax.fill_between(k, low, high, color=BLUE, alpha=0.15, lw=0)
    ax.errorbar(
        k[:1], value[:1], [[value[0] - low[0]], [high[0] - value[0]]], fmt="none", ecolor=BLUE, lw=1.2, capsize=3
    )
    ax.plot(k, value, color=BLUE, lw=1.6, marker="o", ms=4)
    ax.set_xscale("log", base=2)
    ax.set_xticks(k, [str(number) for number in k])
    ax.minorticks_off()
    ax.set_xlim(k[0] / 1.25, k[-1] * 1.25)
    ax.set_ylim(0, 1.05)
    ax.set_title(f"{benchmark}: pass@k", loc="left", size=11, weight="bold", pad=24)
    average = each["avg_at_n"]
    subtitle(ax, f"avg@{each['n']} {average['value']:.3f} [{average['low']:.3f}, {average['high']:.3f}]")
    ax.set_xlabel("k")
    ax.set_ylabel("share of the problems")


def _solved(ax: Axes, each: dict[str, Any]) -> None:
    tallies = [tally for tally in each["by_problem"].values() if tally["graded"]]
    shares = np.sort([tally["correct"] / tally["graded"] for tally in tallies])[::-1]
    ax.fill_between(np.arange(len(shares) + 1), np.append(shares, shares[-1]), step="post", color=BLUE, lw=0)
    ax.set_xlim(0, len(shares))
    ax.set_ylim(0, 1.05)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title("Correct share by problem", loc="left", size=11, weight="bold", pad=24)
    always, never = (shares == 1).sum(), (shares == 0).sum()
    subtitle(ax, f"{counted(len(shares), 'problem')}: {always:,} always, {never:,} never solved")
    ax.set_xlabel("problems, the easiest first")
    ax.set_ylabel("correct responses")


def _lengths(ax: Axes, each: dict[str, Any]) -> None:
    lengths = each["lengths"]
    edges, below = np.array(lengths["edges"]), np.zeros(len(lengths["edges"]) - 1)
    for kind, colour in ENDINGS.items():
        counts = np.array(lengths[kind])
        if counts.any():
            ax.bar(edges[:-1], counts, np.diff(edges), bottom=below, align="edge", color=colour, label=kind, lw=0)
        below += counts
    ax.set_xlim(0, edges[-1])
    ax.set_ylim(0, 1.22 * max(1, below.max()))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    ax.legend(loc="upper left", ncols=3, handlelength=0.8, handletextpad=0.4, columnspacing=1.0, borderaxespad=0.1)
    ax.set_title("Length of responses", loc="left", size=11, weight="bold", pad=24)
    shares = f"{100 * each['truncated_share']:.1f} % truncated, {100 * each['no_answer_share']:.1f} % no answer"
    subtitle(ax, f"mean {each['tokens_mean']:,.0f} tokens, {shares}")
    ax.set_xlabel("tokens")
    ax.set_ylabel("responses")


def over_versions(lines: Sequence[dict[str, Any]]) -> bytes:
    """avg@n over the run's versions with its interval, one panel for each benchmark; ``lines`` are those of
    ``evaluations.jsonl``. Returns PNG."""
    with matplotlib.rc_context(STYLE):
        return png(figure_over_versions(lines))


def figure_over_versions(lines: Sequence[dict[str, Any]]) -> Figure:
    """The figure of ``over_versions``. Call this inside an ``rc_context`` of ``STYLE``."""
    names = sorted({line["benchmark"] for line in lines})
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    high = 3.3 * rows + 0.2
    figure = Figure(figsize=(12, high), dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    figure.subplots_adjust(0.065, 0.55 / high, 0.975, 1 - 0.75 / high, hspace=0.6, wspace=0.2)
    for ax, name, colour in zip(axes, names, LINES * len(names), strict=False):
        _versions(ax, name, [line for line in lines if line["benchmark"] == name], colour)
    for ax in list(figure.axes)[len(names) :]:
        ax.set_axis_off()
    return figure


def _versions(ax: Axes, name: str, lines: Sequence[dict[str, Any]], colour: str) -> None:
    lines = sorted(lines, key=lambda line: line["version"])
    x, value = [line["version"] for line in lines], np.array([line["avg_at_n"]["value"] for line in lines])
    low, high = (np.array([line["avg_at_n"][end] for line in lines]) for end in ("low", "high"))
    ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    ax.errorbar(x, value, [value - low, high - value], color=colour, lw=1.6, marker="o", ms=4, capsize=3, elinewidth=1)
    ax.set_ylim(max(0.0, low.min() - 0.08), min(1.02, high.max() + 0.08))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_title(f"{name}, avg@{lines[-1]['n']}", loc="left", size=11, weight="bold", pad=24)
    first, last = lines[0]["avg_at_n"]["value"], lines[-1]["avg_at_n"]["value"]
    subtitle(
        ax, f"version {x[0]}: {first:.3f} → version {x[-1]}: {last:.3f}; {counted(lines[-1]['problems'], 'problem')}"
    )
    ax.set_xlabel("version")
    ax.set_ylabel("correct responses")
    if len(x) <= 12:
        ax.set_xticks(x)
