"""The report: one picture and one page about a run, made from its folder alone, whether it is finished or not.

::

    config.toml  metrics.jsonl  ledger.jsonl  workers.jsonl ──▶ report.png  report.html

``metrics.jsonl`` is required, and in each of its lines the keys in ``REQUIRED``. Whatever else is missing (a key that
an older version did not write, the ledger, the workers' records) leaves its place empty and is said on the page.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from ..common.config import Config, parse
from ..common.errors import AuditError, ConfigError, DataError, LeewayError
from ..common.ledger import read
from ..common.metrics import read_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REQUIRED = ("step", "reward/mean", "batch/groups", "batch/tokens", "time/step_s")
"""Keys that every line of ``metrics.jsonl`` must have; all others are optional."""

EVENTS = ("run", "started", "refunded", "control", "end")
"""What is kept of the ledger; a line for every group trained would be gigabytes in a long run."""

NAN = math.nan


def write_report(folder: Path) -> Path:
    """Write ``report.png`` and ``report.html`` (self-contained) into the run's ``folder``; returns the page's path.

    Raises ``DataError`` where the folder has no usable ``metrics.jsonl``.
    """
    run = _load(folder)
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise LeewayError(f"the report needs {error.name}: pip install 'leeway-rl[report]'") from error
    picture = _picture(run)
    (folder / "report.png").write_bytes(picture)
    page = folder / "report.html"
    page.write_text(_page(run, picture), encoding="utf-8")
    return page


# --- reading the folder ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    name: str
    steps: list[dict[str, Any]]
    """The lines of ``metrics.jsonl``: one a training step, by step, each step once."""
    ledger: list[dict[str, Any]]
    """The ledger's lines of the kinds in ``EVENTS``, without those that a resume undid; empty where there is none."""
    loads: list[dict[str, Any]]
    """The workers' records of weights they loaded."""
    config_text: str
    config: Config | None
    missing: list[str]
    """What could not be read, in sentences."""

    def series(self, key: str) -> list[float]:
        """``key`` by step; NaN where a line does not have it."""
        return [NAN if line.get(key) is None else float(line[key]) for line in self.steps]

    def has(self, *keys: str) -> bool:
        """Whether any step has a number for each of ``keys``."""
        return all(any(math.isfinite(value) for value in self.series(key)) for key in keys)

    def total(self, key: str) -> float:
        """The sum over the steps that have ``key``."""
        return math.fsum(_finite(self.series(key)))

    def events(self, event: str) -> list[dict[str, Any]]:
        """The ledger's lines of one kind."""
        return [line for line in self.ledger if line["event"] == event]

    def x(self) -> list[int]:
        """The step numbers."""
        return [line["step"] for line in self.steps]

    def resumed_at(self) -> list[int]:
        """The steps at which a learner started again."""
        return [line["version"] for line in self.events("started")[1:]]


def _load(folder: Path) -> _Run:
    steps, missing = _metrics(folder), []
    config_text, config = "", None
    try:
        config_text = (folder / "config.toml").read_text(encoding="utf-8")
        config = parse(config_text, str(folder / "config.toml"))
    except OSError as error:
        missing.append(f"config.toml cannot be read ({error.strerror}).")
    except ConfigError as error:
        missing.append(f"config.toml is not of this version: {error}.")
    ledger = _ledger(folder / "ledger.jsonl", missing)
    loads = _loads(folder / "workers.jsonl", missing)
    return _Run(
        name=folder.resolve().name,
        steps=steps,
        ledger=ledger,
        loads=loads,
        config_text=config_text,
        config=config,
        missing=missing,
    )


def _metrics(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    expected = "expected one JSON line a training step, as the learner writes them into runs/ID/"
    if not path.is_file():
        raise DataError(f"{path}: no metrics there; {expected}")
    try:
        lines = read_steps(folder)
    except ValueError as error:
        raise DataError(f"{path}: not JSON lines ({error}); {expected}") from error
    if not lines:
        raise DataError(f"{path}: no training step yet; {expected} once the first is done")
    for number, line in enumerate(lines, start=1):
        lacking = [key for key in REQUIRED if not isinstance(line, dict) or not isinstance(line.get(key), int | float)]
        if lacking:
            needed = ", ".join(REQUIRED)
            raise DataError(f"{path}:{number}: no number for {', '.join(lacking)}; every line needs {needed}")
    by_step = {line["step"]: line for line in lines}
    return [by_step[step] for step in sorted(by_step)]


def _ledger(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    good = 0
    try:
        for line in read(path):
            good = line["line"]
            if line["event"] == "rolled_back":
                while kept and kept[-1]["line"] > line["to_line"]:
                    kept.pop()
            elif line["event"] in EVENTS:
                kept.append(line)
    except (AuditError, DataError) as error:  # judging the ledger is the audit's work; here it is a source like others
        missing.append(f"The ledger is used up to line {good}: {error}.")
    return kept


def _loads(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        missing.append("workers.jsonl is not there: nothing is known of the workers' weight loads.")
        return []
    records = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(text)
        except ValueError:  # a torn line; this file is a view, and another line says as much
            continue
        if "weights/load_s" in record:
            records.append(record)
    return records


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def _mean(values: Iterable[float]) -> float:
    found = _finite(values)
    return fmean(found) if found else NAN


def _ends(values: Sequence[float]) -> tuple[int, float, float]:
    """(n, mean of the first n, mean of the last n): n is 10, or half of a run shorter than 20 steps."""
    count = min(10, max(1, len(values) // 2))
    return count, _mean(values[:count]), _mean(values[-count:])


def _window(count: int) -> int:
    """Steps a smoothed point is the mean of: odd, about a twentieth of the run; 1 (none) in a short one."""
    return 1 if count < 10 else min(21, max(3, count // 20 | 1))


def _smooth(values: Sequence[float]) -> list[float]:
    """Centred moving mean; at the ends over the steps that are there."""
    half = _window(len(values)) // 2
    return [_mean(values[max(0, at - half) : at + half + 1]) for at in range(len(values))]


def _ages(run: _Run) -> tuple[Counter[int], Counter[int]]:
    """Groups trained by head staleness: (within the bound of their step, past it)."""
    within: Counter[int] = Counter()
    past: Counter[int] = Counter()
    prefix = "staleness/head_count_"
    for line, bound in zip(run.steps, _bounds(run), strict=True):
        for key, count in line.items():
            if key.startswith(prefix):
                age = int(key.removeprefix(prefix))
                (past if age > bound else within)[age] += int(count)
    return within, past


def _bounds(run: _Run) -> list[float]:
    """η by step: as measured, else as configured, else NaN."""
    configured = NAN if run.config is None else run.config.flow.max_staleness
    return [configured if math.isnan(bound) else bound for bound in run.series("flow/max_staleness")]


def _turns(values: Sequence[float], steps: Sequence[int]) -> list[tuple[int, float]]:
    """(step, value) at the start and wherever the value changes; steps without a value are passed over."""
    turns: list[tuple[int, float]] = []
    for step, value in zip(steps, values, strict=True):
        if not math.isnan(value) and (not turns or turns[-1][1] != value):
            turns.append((step, value))
    return turns


def _refunds(run: _Run) -> dict[str, int]:
    """Refunds over the run by reason, most frequent first. The ledger is the truth; metrics stand in for it."""
    if run.ledger:
        counts = Counter(line["reason"] for line in run.events("refunded"))
    else:
        counts = Counter({reason: int(sum(_finite(values))) for reason, values in _refunds_by_step(run).items()})
    return {reason: count for reason, count in counts.most_common() if count}


def _refunds_by_step(run: _Run) -> dict[str, list[float]]:
    """Refunds in each step by reason. Orphaned groups are no refund (their ticket is live again) and stand apart."""
    keys = sorted({key for line in run.steps for key in line if key.startswith("refunds/")} - {"refunds/orphaned"})
    return {key.removeprefix("refunds/"): run.series(key) for key in keys}


def _orphaned(run: _Run) -> int:
    """Groups of an older incarnation that were turned away. The learner counts them from its start, so a fall is a new
    learner's count."""
    total, before = 0.0, 0.0
    for count in _finite(run.series("refunds/orphaned")):
        total += count - before if count >= before else count
        before = count
    return int(total)


def _tokens_arrived(run: _Run) -> float:
    """Response tokens of every group that came in, refunded ones included."""
    rates = run.series("throughput/rollout_tokens_per_s")
    return math.fsum(_finite(rate * line["time/step_s"] for rate, line in zip(rates, run.steps, strict=True)))


TIMES = {
    "wait": "time/wait_for_batch_s",
    "train": "time/train_s",
    "publish": "time/publish_s",
    "checkpoint": "time/checkpoint_s",
}


def _time_parts(run: _Run) -> dict[str, list[float]]:
    """Seconds by step of each part of the learner's time; ``other`` is what is left of ``time/step_s``."""
    recorded = {name: run.series(key) for name, key in TIMES.items() if run.has(key)}
    parts = {name: [0.0 if math.isnan(s) else s for s in seconds] for name, seconds in recorded.items()}
    if parts:
        known = [math.fsum(values) for values in zip(*parts.values(), strict=True)]
        parts["other"] = [max(0.0, line["time/step_s"] - s) for line, s in zip(run.steps, known, strict=True)]
    return parts


# --- the picture -----------------------------------------------------------------------------------------------------

INK, SOFT, FAINT = "#1f2328", "#646c76", "#e4e7eb"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#a8558a", "#56b4e9", "#b8bec6",
)  # fmt: skip  # Okabe and Ito's palette: told apart by colour-blind readers too

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8, "axes.axisbelow": True,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": FAINT, "grid.linewidth": 0.8,
    "xtick.color": GREY, "ytick.color": GREY, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "xtick.major.size": 3, "ytick.major.size": 0, "legend.frameon": False, "legend.fontsize": 8.5,
    "lines.solid_capstyle": "round", "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip

DRAWN_BARS = 120  # more steps than this are drawn as means over neighbours


def _picture(run: _Run) -> bytes:
    """The figure as PNG. No pyplot: nothing global is touched, and the caller's backend does not matter."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(12, 3.55 * math.ceil(len(PANELS) / 2) + 0.7))
        FigureCanvasAgg(figure)
        axes = figure.subplots(math.ceil(len(PANELS) / 2), 2)
        high = figure.get_figheight()
        figure.subplots_adjust(0.065, 0.5 / high, 0.91, 1 - 1.35 / high, hspace=0.54, wspace=0.42)
        figure.text(0.065, 1 - 0.32 / high, run.name, size=15, weight="bold", va="center")
        figure.text(0.065, 1 - 0.60 / high, _headline(run), size=9.5, color=SOFT, va="center")
        for ax, panel in zip(axes.flat, PANELS, strict=True):
            ax.set_title(panel.title, loc="left", size=11, weight="bold", pad=24)
            panel.draw(ax, run)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _headline(run: _Run) -> str:
    planned = f" of {run.config.train.steps}" if run.config is not None else ""
    parts = [f"{len(run.steps)}{planned} training steps"]
    parts += [f"{run.total('batch/groups'):,.0f} groups trained"]
    bounds = " → ".join(f"{bound:.0f}" for _, bound in _turns(_bounds(run), run.x()))
    parts += [f"max_staleness η = {bounds}"] if bounds else []
    parts += [f"resumed at step {', '.join(map(str, run.resumed_at()))}"] if run.resumed_at() else []
    return "   ·   ".join(parts)


def _draw_reward(ax: Axes, run: _Run) -> None:
    rewards, x = run.series("reward/mean"), run.x()
    count, first, last = _ends(rewards)
    labels = [(last, f"{last:.3f}", BLUE)]
    if run.has("reward/trained_mean"):
        labels = [(last, f"all {last:.3f}", BLUE)]
        trained = _smooth(run.series("reward/trained_mean"))
        ax.plot(x, trained, color=SOFT, lw=1.2, marker="o" if len(x) < 10 else "", ms=3)
        labels.append((trained[-1], "trained on", SOFT))
    _line(ax, run, rewards, BLUE)
    _subtitle(ax, _from_to(count, first, last, len(x)) + _smoothing(x))
    if len(x) > 1:
        for mean, steps in ((first, x[:count]), (last, x[-count:])):
            ax.plot([steps[0] - 0.4, steps[-1] + 0.4], [mean, mean], color=INK, lw=1.4, solid_capstyle="butt", zorder=4)
    _over_steps(ax, run, from_zero=True)
    for version in run.resumed_at():
        ax.annotate("resumed", (version - 0.5, 0.03), (3, 0), ax.get_xaxis_transform(), "offset points", color=SOFT)
    _end_labels(ax, labels)


def _draw_entropy(ax: Axes, run: _Run) -> None:
    if not run.has("entropy/policy"):
        _empty(ax, "entropy/policy is not recorded")
        return
    entropy, target, x = run.series("entropy/policy"), run.series("entropy/target"), run.x()
    _line(ax, run, entropy, BLUE)
    count, first, last = _ends(entropy)
    _subtitle(ax, _from_to(count, first, last, len(x)) + _smoothing(x))
    ax.set_ylabel("nats a token")
    labels = [(last, f"policy {last:.3f}", BLUE)]
    if run.has("entropy/target"):
        ax.step(x, target, where="post", color=RED, lw=1.3, ls=(0, (4, 2)))
        labels.append((target[-1], f"target {target[-1]:.3g}", RED))
    _over_steps(ax, run, from_zero=True)
    _end_labels(ax, labels)


def _draw_controller(ax: Axes, run: _Run) -> None:
    if not run.has("entropy/coefficient", "entropy/alpha"):
        _empty(ax, "entropy/coefficient and entropy/alpha are not recorded")
        return
    coefficient, alpha, x = run.series("entropy/coefficient"), run.series("entropy/alpha"), run.x()
    applied = [value > 0 for value in alpha if math.isfinite(value)]
    ax.plot(x, coefficient, color=GREEN, lw=1.4 if len(x) < 150 else 0.8, zorder=3)
    ax.scatter(x, alpha, s=14 if len(x) < 150 else 8, color=RED, zorder=2, linewidths=0, clip_on=False)
    _subtitle(ax, f"applied (α > 0) in {_percent(sum(applied) / len(applied))} of the steps")
    top = max(_finite([*coefficient, *alpha]))
    ax.set_ylim(0, 1.12 * top if top > 0 else 0.01)
    _over_steps(ax, run)
    _end_labels(ax, [(coefficient[-1], "coefficient c", GREEN), (alpha[-1], "α in the loss", RED)])


def _draw_refunds(ax: Axes, run: _Run) -> None:
    from matplotlib.ticker import MaxNLocator

    by_step = {reason: values for reason, values in _refunds_by_step(run).items() if sum(_finite(values))}
    if not by_step:
        known = any(key.startswith("refunds/") for line in run.steps for key in line)
        _empty(ax, "no group was refunded" if known else "refunds are not recorded")
        return
    reasons = sorted(by_step, key=lambda reason: -sum(_finite(by_step[reason])))
    colours = [ORANGE, RED, PURPLE, SKY, GREEN, BLUE]
    parts = {
        f"{reason} {sum(_finite(by_step[reason])):,.0f}": (by_step[reason], colours[place % len(colours)])
        for place, reason in enumerate(reasons)
    }
    _stacked(ax, run, parts, digits=0)
    trained = run.total("batch/groups") / len(run.steps)
    ax.axhline(trained, color=INK, lw=1.1, ls=(0, (4, 2)))
    ax.set_ylim(0, max(ax.get_ylim()[1], 1.15 * trained))
    _over_steps(ax, run)
    ax.set_ylabel("groups a step")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _end_labels(ax, [(trained, f"trained: {trained:.0f}", INK)])


def _draw_staleness(ax: Axes, run: _Run) -> None:
    within, past = _ages(run)
    total = within.total() + past.total()
    if not total:
        _empty(ax, "staleness/head_count_N is not recorded")
        return
    ages = range(max([*within, *past, *map(int, _finite(_bounds(run)))]) + 1)
    allowed = [within[age] / total for age in ages]
    ax.bar(ages, allowed, width=0.72, color=BLUE)
    ax.bar(ages, [past[age] / total for age in ages], width=0.72, bottom=allowed, color=RED)
    for age in ages if len(ages) <= 12 else ():
        share = (within[age] + past[age]) / total
        ax.annotate(_percent(share), (age, share), (0, 3), textcoords="offset points", ha="center", size=8.5)
    ax.set_ylim(0, 1.15 * max((within[age] + past[age]) / total for age in ages))
    ax.set_xlim(-0.6, max(2.6, ages[-1] + 0.95))
    _draw_bounds(ax, run)
    mean = math.fsum(age * (within[age] + past[age]) for age in ages) / total
    worst = max([*within.keys(), *past.keys()])
    _subtitle(ax, f"mean {mean:.2f}, worst {worst}; {past.total()} of {total:,} groups past the bound of their step")
    _shares_and_whole_ages(ax)


def _draw_bounds(ax: Axes, run: _Run) -> None:
    """A line just right of the bars that the bound allows; where η was turned, one for each of its values."""
    turns = _turns(_bounds(run), run.x())
    texts: dict[float, list[str]] = {}
    for step, bound in turns:
        texts.setdefault(bound, []).append(f"from step {step}")
    for place, (bound, since) in enumerate(sorted(texts.items())):
        ax.axvline(bound + 0.5, color=INK, lw=1.1, ls=(0, (4, 2)))
        text = f"bound η = {bound:.0f}" + (f"\n{', '.join(since)}" if len(turns) > 1 else "")
        at = (bound + 0.5, 0.97 - 0.2 * place)
        ax.annotate(text, at, (5, 0), ax.get_xaxis_transform(), "offset points", va="top")


def _shares_and_whole_ages(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("head staleness (versions)")
    ax.set_ylabel("groups trained")


def _draw_drift(ax: Axes, run: _Run) -> None:
    if not run.has("logprob/abs_diff_mean"):
        _empty(ax, "logprob/abs_diff_mean is not recorded")
        return
    drift = run.series("logprob/abs_diff_mean")
    _line(ax, run, drift, PURPLE)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    text = f"mean over the run {_mean(drift):.2g}"
    if run.has("logprob/abs_diff_max"):
        text += f", largest of one token {max(_finite(run.series('logprob/abs_diff_max'))):.2g}"
    _subtitle(ax, text + _smoothing(run.x()))
    _over_steps(ax, run, from_zero=True)


def _draw_throughput(ax: Axes, run: _Run) -> None:
    labels = []
    for who, colour in (("rollout", BLUE), ("learner", RED)):
        key = f"throughput/{who}_tokens_per_s"
        if run.has(key):
            _line(ax, run, run.series(key), colour)
            labels.append((_smooth(run.series(key))[-1], who, colour))
    if not labels:
        _empty(ax, "throughput/* is not recorded")
        return
    rates = [f"{who} {rate:,.0f}" for who, rate in _rates(run).items() if not math.isnan(rate)]
    _subtitle(ax, f"over the run: {', '.join(rates)} tokens/s{_smoothing(run.x())}")
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _over_steps(ax, run, from_zero=True)
    _end_labels(ax, labels)


def _rates(run: _Run) -> dict[str, float]:
    """Tokens a second over the whole run."""
    seconds = run.total("time/step_s")
    arrived = _tokens_arrived(run) if run.has("throughput/rollout_tokens_per_s") else NAN
    return {"rollout": arrived / seconds, "learner": run.total("batch/tokens") / seconds} if seconds > 0 else {}


def _draw_time(ax: Axes, run: _Run) -> None:
    parts = _time_parts(run)
    if not parts:
        _empty(ax, "time/wait_for_batch_s, time/train_s, … are not recorded")
        return
    colours = {"wait": ORANGE, "train": BLUE, "publish": GREEN, "checkpoint": PURPLE, "other": GREY}
    total = math.fsum(map(math.fsum, parts.values()))
    named = {
        f"{name} {_percent(math.fsum(values) / total)}": (values, colours[name])
        for name, values in parts.items()
        if any(values)
    }
    _stacked(ax, run, named, digits=1)
    _over_steps(ax, run)
    ax.set_ylabel("seconds a step")


# --- parts of panels -------------------------------------------------------------------------------------------------


def _line(ax: Axes, run: _Run, values: Sequence[float], colour: str) -> None:
    """What was measured, faint, and its moving mean over it; in a short run the measured points alone."""
    x = run.x()
    if _window(len(x)) == 1:
        ax.plot(x, values, color=colour, lw=1.6, marker="o", ms=4.5)
    else:
        ax.plot(x, values, color=colour, lw=0.9, alpha=0.32)
        ax.plot(x, _smooth(values), color=colour, lw=2)


def _stacked(ax: Axes, run: _Run, parts: dict[str, tuple[list[float], str]], *, digits: int) -> None:
    """Stacked bars, a legend above them, and single towers (the first step's warm-up) cut off with their height."""
    steps, size = run.x(), math.ceil(len(run.steps) / DRAWN_BARS)
    cuts = range(0, len(steps), size)
    x = [fmean(steps[at : at + size]) for at in cuts]
    bottom = [0.0] * len(x)
    for name, (values, colour) in parts.items():
        heights = [fmean(0.0 if math.isnan(v) else v for v in values[at : at + size]) for at in cuts]
        ax.bar(x, heights, width=0.86 * min(size, len(steps)), bottom=bottom, color=colour, label=name, linewidth=0)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
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


def _over_steps(ax: Axes, run: _Run, *, from_zero: bool = False) -> None:
    """The step axis, with a line where a learner started again; ``from_zero`` starts the y axis at 0
    where no value is below it."""
    from matplotlib.ticker import MaxNLocator

    first, last = run.x()[0], run.x()[-1]
    margin = max(0.6, 0.015 * (last - first))
    ax.set_xlim(first - margin, last + margin)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=7, steps=[1, 2, 5, 10]))
    if not ax.get_xlabel():
        ax.set_xlabel("training step")
    if from_zero and ax.dataLim.y0 >= 0 < ax.dataLim.y1:
        ax.set_ylim(0, 1.06 * ax.dataLim.y1)
    for version in run.resumed_at():
        ax.axvline(version - 0.5, color=SOFT, lw=0.9, ls=":")


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


def _subtitle(ax: Axes, text: str) -> None:
    ax.text(0, 1.045, text, transform=ax.transAxes, color=SOFT, size=8.5)


def _empty(ax: Axes, why: str) -> None:
    ax.set_axis_off()
    _subtitle(ax, why)


def _from_to(count: int, first: float, last: float, steps: int) -> str:
    if steps == 1:
        return f"{first:.3f} in the only step"
    which = f"{count} steps" if count > 1 else "step"
    return f"first {which} {first:.3f} → last {which} {last:.3f}"


def _smoothing(x: Sequence[int]) -> str:
    return "" if _window(len(x)) == 1 else f"; line: mean over {_window(len(x))}"


def _percent(share: float) -> str:
    """Three digits at most, and never 0 % for something or 100 % for not quite everything."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if share < 0.0995 or 0.995 <= share < 1:
        return f"{min(100 * share, 99.9):.1f} %" if share else "0 %"
    return f"{100 * share:.0f} %"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of the figure."""

    title: str
    reading: str
    """How to read it, in one sentence."""
    draw: Callable[[Axes, _Run], None]


PANELS = (
    Panel(
        "Reward",
        "Blue is the mean over every graded response, which is what should rise; grey is the mean over the groups that"
        " were trained on, where those all right or all wrong are left out; the black bars are the means of the first"
        " and the last steps, and a dotted line marks a resume.",
        _draw_reward,
    ),
    Panel(
        "Policy entropy",
        "It should settle at the target: far below it exploration has collapsed, far above it the policy dissolves.",
        _draw_entropy,
    ),
    Panel(
        "Entropy controller",
        "The coefficient c climbs while the entropy is below its target and falls above it; a dot on the zero line is a"
        " step in which the entropy was high enough and no bonus (α) went into the loss.",
        _draw_controller,
    ),
    Panel(
        "Groups refunded",
        "Each bar is work that was generated and not trained on, by reason, beside the dashed line of what was trained;"
        " zero_advantage growing means that the prompts have become too easy or are too hard.",
        _draw_refunds,
    ),
    Panel(
        "Staleness of the trained groups",
        "How many versions old the oldest token of each group was when it was trained on; right of the dashed line (in"
        " red) is what the bound forbids.",
        _draw_staleness,
    ),
    Panel(
        "Distance to the sampling policy, |log π − log μ|",
        "How far the policy had moved from the one that sampled, mean over the tokens; at staleness 0 what is left is"
        " the numerical difference between the sampler and the learner.",
        _draw_drift,
    ),
    Panel(
        "Throughput",
        "Response tokens that came in and that were trained on; the gap between the two is refunded work, and where the"
        " two together are low the learner's time (next picture) shows who waits.",
        _draw_throughput,
    ),
    Panel(
        "Where the learner's time goes",
        "Orange is the learner waiting for groups: much of it asks for more rollout workers or a larger bound, none of"
        " it says that the learner is what limits the run.",
        _draw_time,
    ),
)
"""In reading order, two a row."""


# --- the page --------------------------------------------------------------------------------------------------------

Rows = list[tuple[str, str]]


def _page(run: _Run, picture: bytes) -> str:
    from jinja2 import Environment, StrictUndefined

    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(TEMPLATE)
    sections = {
        "Run": _run_rows(run),
        "Groups": _group_rows(run),
        "Learning": _learning_rows(run),
        "Staleness": _staleness_rows(run),
        "Speed": _speed_rows(run),
        "Response lengths": _length_rows(run),
    }
    return template.render(
        run=run,
        headline=_headline(run),
        picture=base64.b64encode(picture).decode("ascii"),
        sections={name: rows for name, rows in sections.items() if rows},
        panels=PANELS,
    )


def _run_rows(run: _Run) -> Rows:
    planned = f" of {run.config.train.steps}" if run.config is not None else ""
    state = "complete" if run.events("end") else "not complete when this was written"
    rows = [("run", run.name), ("training steps", f"{len(run.steps)}{planned}" + (f", {state}" if run.ledger else ""))]
    began = run.steps[0].get("at")
    if began is not None:
        start = datetime.fromtimestamp(began - run.steps[0]["time/step_s"], UTC)
        rows.append(("started", f"{start:%Y-%m-%d %H:%M} UTC"))
    rows.append(("time in training steps", _duration(run.total("time/step_s"))))
    if run.resumed_at():
        rows.append(("resumed at step", ", ".join(map(str, run.resumed_at()))))
    for turn in run.events("control"):
        rows.append((f"{turn['name']} turned", f"{turn['previous']} → {turn['value']} at version {turn['version']}"))
    return rows


def _group_rows(run: _Run) -> Rows:
    size = f", {run.total('batch/responses'):,.0f} responses" if run.has("batch/responses") else ""
    rows = [("groups trained", f"{run.total('batch/groups'):,.0f}{size}, {run.total('batch/tokens'):,.0f} tokens")]
    refunds = _refunds(run)
    all_groups = run.total("batch/groups") + sum(refunds.values())
    for reason, count in refunds.items():
        rows.append((f"refunded: {reason}", f"{count:,} ({_percent(count / all_groups)} of all)"))
    if not refunds:
        rows.append(("refunded", "none"))
    if _orphaned(run):
        rows.append(("orphaned", f"{_orphaned(run):,} (made for an earlier learner; their tickets were issued again)"))
    return rows


def _learning_rows(run: _Run) -> Rows:
    rows = []
    for label, key in (
        ("reward", "reward/mean"),
        ("reward of the trained groups", "reward/trained_mean"),
        ("entropy (nats a token)", "entropy/policy"),
    ):
        if run.has(key):
            count, first, last = _ends(run.series(key))
            steps = f"first and last {count} steps" if count > 1 else "first and last step"
            rows.append((f"{label}, {steps}", f"{first:.3f} → {last:.3f}"))
    targets = [f"{target:.4g}" for _, target in _turns(run.series("entropy/target"), run.x())]
    if targets:
        rows.append(("entropy target", " → ".join(targets)))
    if run.has("policy/clip_fraction"):
        rows.append(("tokens clipped", _percent(_mean(run.series("policy/clip_fraction")))))
    return rows


def _staleness_rows(run: _Run) -> Rows:
    rows: Rows = []
    bounds = " → ".join(f"{bound:.0f}" for _, bound in _turns(_bounds(run), run.x())) or "not recorded"
    if run.has("staleness/head_mean", "staleness/head_max"):
        mean, worst = _mean(run.series("staleness/head_mean")), max(_finite(run.series("staleness/head_max")))
        rows.append(("head staleness: mean, worst, bound", f"{mean:.2f}, {worst:.0f}, {bounds}"))
    within, past = _ages(run)
    if within or past:
        rows.append(("groups past the bound of their step", f"{past.total():,} of {within.total() + past.total():,}"))
    if run.has("staleness/token_mean"):
        rows.append(("token staleness, mean", f"{_mean(run.series('staleness/token_mean')):.2f}"))
    if run.has("logprob/abs_diff_mean"):
        rows.append(("|log π − log μ|, mean over tokens", f"{_mean(run.series('logprob/abs_diff_mean')):.3g}"))
    if run.has("logprob/ess"):
        rows.append(("effective sample size", f"{_percent(_mean(run.series('logprob/ess')))} of the tokens"))
    return rows


def _speed_rows(run: _Run) -> Rows:
    rows = [(f"{who}, tokens a second", f"{rate:,.0f}") for who, rate in _rates(run).items() if not math.isnan(rate)]
    rows.append(("seconds a step, median", f"{median(run.series('time/step_s')):.3g}"))
    parts = _time_parts(run)
    if "wait" in parts:
        total = math.fsum(map(math.fsum, parts.values()))
        rows.append(("learner's time spent waiting", _percent(math.fsum(parts["wait"]) / total) if total else "0 %"))
    if run.has("weights/payload_bytes", "weights/full_bytes"):
        pairs = zip(run.series("weights/payload_bytes"), run.series("weights/full_bytes"), strict=True)
        shares = _finite(payload / full for payload, full in pairs if full)
        full = _finite(run.series("weights/full_bytes"))[-1]
        text = f"mean {_percent(_mean(shares))}, median {_percent(median(shares))} of {_bytes(full)}"
        rows.append(("bytes a version, share of full", text))
    if run.loads:
        loads = [record["weights/load_s"] for record in run.loads]
        rows.append(("weight loads by workers", f"{len(loads):,}, median {median(loads):.3g} s"))
        pauses = [record["weights/paused_s"] for record in run.loads if "weights/paused_s" in record]
        if pauses:
            rows.append(("pause for a load, median and longest", f"{median(pauses):.3g} s, {max(pauses):.3g} s"))
    return rows


def _length_rows(run: _Run) -> Rows:
    if not run.has("batch/responses"):
        return []
    rows = [("trained, mean tokens", f"{run.total('batch/tokens') / run.total('batch/responses'):.4g}")]
    if run.has("generated/groups", "generated/length_mean"):
        pairs = zip(run.series("generated/groups"), run.series("generated/length_mean"), strict=True)
        weighted = math.fsum(_finite(groups * length for groups, length in pairs))
        length = weighted / run.total("generated/groups")
        rows.append(("all generated, mean tokens", f"{length:.4g} (groups graded and then refunded included)"))
    if run.has("response/length_max"):
        limit = f" of {run.config.train.max_response_tokens:,} allowed" if run.config is not None else ""
        rows.append(("longest trained", f"{max(_finite(run.series('response/length_max'))):,.0f}{limit}"))
    if run.has("response/truncated_share"):
        _, first, last = _ends(run.series("response/truncated_share"))
        rows.append(("truncated, first and last steps", f"{_percent(first)} → {_percent(last)}"))
    return rows


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


TEMPLATE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ run.name }} – Leeway report</title>
<style>
  body { margin: 2.5rem auto; max-width: 62rem; padding: 0 1.25rem; background: #fff; color: #1f2328;
         font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
  h1 { font-size: 1.6rem; margin: 0; }
  h2 { font-size: 1.1rem; margin: 2.5rem 0 .6rem; }
  p.lead { color: #57606a; margin: .2rem 0 1.5rem; }
  img { width: 100%; height: auto; }
  table { border-collapse: collapse; width: 100%; max-width: 48rem; font-variant-numeric: tabular-nums; }
  th, td { text-align: left; vertical-align: top; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid #e4e7eb; }
  th[scope=rowgroup] { padding-top: 1.1rem; border-bottom: 1px solid #8b949e; }
  th[scope=row] { font-weight: normal; color: #57606a; width: 45%; }
  dt { font-weight: 600; margin-top: .7rem; }
  dd { margin: 0; max-width: 48rem; }
  pre { background: #f6f8fa; padding: 1rem; overflow-x: auto;
        font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; }
  .missing { border-left: 4px solid #d55e00; padding: .1rem 1rem; }
</style>
</head>
<body>
<h1>{{ run.name }}</h1>
<p class="lead">{{ headline }}</p>
{% if run.missing %}
<div class="missing">
{% for sentence in run.missing %}
<p>{{ sentence }}</p>
{% endfor %}
</div>
{% endif %}
<img src="data:image/png;base64,{{ picture }}" alt="Pictures of the run: {% for panel in panels -%}
{{ panel.title }}{{ '; ' if not loop.last else '' }}{% endfor %}">
<h2>Summary</h2>
<table>
{% for name, rows in sections.items() %}
<tbody>
<tr><th scope="rowgroup" colspan="2">{{ name }}</th></tr>
{% for label, value in rows %}
<tr><th scope="row">{{ label }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody>
{% endfor %}
</table>
<h2>How to read the pictures</h2>
<dl>
{% for panel in panels %}
<dt>{{ panel.title }}</dt><dd>{{ panel.reading }}</dd>
{% endfor %}
</dl>
{% if run.config_text %}
<h2>Configuration</h2>
<pre>{{ run.config_text }}</pre>
{% endif %}
</body>
</html>
"""
