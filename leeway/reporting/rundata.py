"""A run's folder as numbers, for its report; the run may be finished or not.

``metrics.jsonl`` is required, and in each of its lines the keys in ``REQUIRED``. Whatever else is missing (a key that
an older version did not write, the ledger, the workers' records) leaves a gap and a sentence in ``RunData.missing``.
"""

import math
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.config import Config, parse, text_in
from ...common.errors import AuditError, ConfigError, DataError
from ...common.json_text import line_of_ours
from ...common.ledger import read_standing
from ...common.lineage import Ancestor, lineage_in
from ...common.metrics import read_steps
from ...common.wording import counted

REQUIRED = ("step", "reward/mean", "batch/groups", "batch/tokens", "time/step_s")
"""Keys that every line of ``metrics.jsonl`` must have; all others are optional."""

EVENTS = ("run", "started", "control", "end")
"""The events that are kept of the ledger; the lines of all groups would be gigabytes in a long run."""

TIMES = {
    "wait": "time/wait_for_batch_s",
    "train": "time/train_s",
    "publish": "time/publish_s",
    "checkpoint": "time/checkpoint_s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """What one run's folder holds."""

    name: str
    steps: list[dict[str, Any]]
    """The lines of ``metrics.jsonl``, one for each training step, in the order of steps."""
    ledger: list[dict[str, Any]]
    """The ledger's lines of the kinds in ``EVENTS``, without those that a resume undid; empty where there is none."""
    refunded: Counter[str]
    """Refunded groups by reason, as the ledger has them; those that a resume undid are not counted."""
    loads: list[dict[str, Any]]
    """The workers' records of the weights that they loaded."""
    evaluations: list[dict[str, Any]]
    """Lines of ``evaluations.jsonl``, which followers of the run leave under ``evaluations/``: avg@n and its interval
    by version and benchmark. Empty where nobody followed the run."""
    config_text: str
    config: Config | None
    missing: list[str]
    """What could not be read, in sentences."""

    @property
    def x(self) -> list[int]:
        """The step numbers."""
        return [line["step"] for line in self.steps]

    def series(self, key: str) -> np.ndarray:
        """``key`` by step, float64; NaN where a line does not have it."""
        return np.array([math.nan if line.get(key) is None else line[key] for line in self.steps], dtype=np.float64)

    def has(self, *keys: str) -> bool:
        """Whether any step has a number for each of ``keys``."""
        return all(np.isfinite(self.series(key)).any() for key in keys)

    def keys(self, prefix: str) -> list[str]:
        """The metrics that begin with ``prefix``, in the order of the first step that has them."""
        return list(dict.fromkeys(key for line in self.steps for key in line if key.startswith(prefix)))

    def total(self, key: str) -> float:
        """The sum over the steps that have ``key``."""
        return float(np.nansum(self.series(key)))

    def total_of(self, share: str, whole: str) -> float:
        """The sum over the steps of ``share`` times ``whole``."""
        return float(np.nansum(self.series(share) * self.series(whole)))

    def events(self, event: str) -> list[dict[str, Any]]:
        """The ledger's lines of one kind."""
        return [line for line in self.ledger if line["event"] == event]

    @property
    def lineage(self) -> list[Ancestor]:
        """Where a fork comes from, the nearest run first."""
        return [each for line in self.events("run") for each in lineage_in(line)]

    @property
    def planned(self) -> str:
        """ " of N", the training steps that are due here; nothing where that is not known."""
        begun = self.lineage[0].step if self.lineage else 0
        return f" of {self.config.train.steps - begun}" if self.config is not None else ""

    def resumed_at(self) -> list[int]:
        """The steps at which a learner started again."""
        return [line["version"] for line in self.events("started")[1:]]

    def stage_changes(self) -> list[tuple[int, str]]:
        """(first step, what it changes) of every stage after the first that the run has come to."""
        if self.config is None:
            return []
        changes = []
        for stage in self.config.stages:
            keys = stage.model_dump(exclude={"from_step"}, exclude_defaults=True)
            words = ", ".join(f"{key} {str(value).lower()}" for key, value in keys.items())
            if self.x and stage.from_step <= self.x[-1]:
                changes.append((stage.from_step, words or "nothing"))
        return changes

    def dial(self) -> list[tuple[int, str]]:
        """(version, the new values of live controls) in the order of versions; turns at the same version are one
        text."""
        turned: dict[int, list[str]] = {}
        for line in self.events("control"):
            by = f" ({who})" if (who := line.get("by", "operator")) != "operator" else ""
            turned.setdefault(line["version"], []).append(turned_to(line["name"], line["value"]) + by)
        return sorted((version, ", ".join(words)) for version, words in turned.items())

    def bounds(self) -> np.ndarray:
        """η by step, in versions, as measured; as configured where it was not measured; else NaN."""
        configured = math.nan if self.config is None else self.config.flow.first_bound
        return np.nan_to_num(self.series("flow/max_staleness"), nan=configured)

    def turns(self, values: np.ndarray) -> list[tuple[int, float]]:
        """(step, value) at the start and wherever the value changes; steps without a value are passed over."""
        known = [(step, float(value)) for step, value in zip(self.x, values, strict=True) if not math.isnan(value)]
        return [turn for at, turn in enumerate(known) if at == 0 or known[at - 1][1] != turn[1]]

    def ages(self) -> tuple[np.ndarray, np.ndarray]:
        """Groups trained by head staleness 0, 1, … versions: (within the bound of their step, past it)."""
        prefix, counts = "staleness/head_count_", Counter[tuple[int, bool]]()
        for line, bound in zip(self.steps, self.bounds(), strict=True):
            for age in [int(key.removeprefix(prefix)) for key in line if key.startswith(prefix)]:
                counts[age, bool(age > bound)] += int(line[f"{prefix}{age}"])
        oldest = max([0, *(age for age, _ in counts), *(int(bound) for _, bound in self.turns(self.bounds()))])
        within, past = ([counts[age, beyond] for age in range(oldest + 1)] for beyond in (False, True))
        return np.array(within), np.array(past)

    def refunds(self) -> dict[str, np.ndarray]:
        """Groups in each step that were not trained on, by reason. The most frequent reason comes first, and reasons
        that never occurred are left out. ``orphaned`` groups were made for an earlier learner: their tickets were
        issued again, not refunded."""
        keys = {key for line in self.steps for key in line if key.startswith("refunds/") and self.total(key)}
        return {key.removeprefix("refunds/"): self.series(key) for key in sorted(keys, key=self.total, reverse=True)}

    def time_parts(self) -> dict[str, np.ndarray]:
        """Seconds by step of each part of the learner's time; ``other`` is what is left of ``time/step_s``."""
        parts = {name: np.nan_to_num(self.series(key)) for name, key in TIMES.items()}
        return parts | {"other": np.maximum(0.0, self.series("time/step_s") - sum(parts.values()))}

    def rates(self) -> dict[str, float]:
        """Response tokens a second over the whole run: those that came in (refunded ones too), and those that were
        trained on. NaN where unknown."""
        seconds = self.series("time/step_s")
        arrived = seconds * self.series("throughput/rollout_tokens_per_s")
        whole = float(seconds.sum()) or math.nan
        return {"rollout": float(np.nansum(arrived)) / whole or math.nan, "learner": self.total("batch/tokens") / whole}

    def headline(self) -> str:
        """The run in one line."""
        parts = [
            f"{len(self.steps)}{self.planned} training steps",
            f"{counted(int(self.total('batch/groups')), 'group')} trained",
        ]
        if turns := self.turns(self.bounds()):
            parts.append(f"max_staleness η = {' → '.join(f'{bound:.0f}' for _, bound in turns)}")
        if self.resumed_at():
            parts.append(f"resumed at step {', '.join(map(str, self.resumed_at()))}")
        if self.lineage:
            parts.append(f"forked from {self.lineage[0].run} at step {self.lineage[0].step}")
        return "   ·   ".join(parts)


def passes_at(run: RunData) -> list[int]:
    """The values of k for which the run has pass@k, in their order."""
    return sorted(int(key.removeprefix("solved/pass_at_")) for key in run.keys("solved/pass_at_"))


def mean(values: np.ndarray) -> float:
    """The mean of the finite values; NaN where there are none."""
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else math.nan


def ends(values: np.ndarray) -> tuple[int, float, float]:
    """(n, mean of the first n, mean of the last n), where n is 10, or half of the steps in a run of fewer than 20."""
    count = min(10, max(1, len(values) // 2))
    return count, mean(values[:count]), mean(values[-count:])


def percent(share: float) -> str:
    """A share as a percentage of three digits at most. It is 0 % or 100 % only where the share is exactly 0 or 1."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if share < 0.0995 or 0.995 <= share < 1:
        return f"{min(100 * share, 99.9):.1f} %" if share else "0 %"
    return f"{100 * share:.0f} %"


def load(folder: Path) -> RunData:
    """Read the run's ``folder``; ``DataError`` where it has no usable ``metrics.jsonl``."""
    steps, missing = _steps(folder), list[str]()
    config_text, config = "", None
    try:
        config_text = text_in(folder / "config.toml")
        config = parse(config_text, str(folder / "config.toml"))
    except OSError as error:
        missing.append(f"config.toml cannot be read ({error.strerror}).")
    except ConfigError as error:
        missing.append(f"config.toml is not of this version: {error}.")
    ledger, refunded = _ledger(folder / "ledger.jsonl", missing)
    return RunData(
        name=folder.resolve().name,
        steps=steps,
        ledger=ledger,
        refunded=refunded,
        loads=_loads(folder / "workers.jsonl", missing),
        evaluations=_evaluations(folder / "evaluations", missing),
        config_text=config_text,
        config=config,
        missing=missing,
    )


DIAL = {
    "max_staleness": "η = {}",
    "asked_bound": "asked η = {}",
    "overflow": "overflow {}",
    "pipeline_depth": "depth {}",
    "target_entropy": "target {}",
    "learning_rate": "learning rate {}",
}
"""How the pictures name each live control, with its new value."""


def turned_to(name: str, value: Any) -> str:
    """The new value of a live control, in a few words."""
    if name == "paused":
        return "paused" if value else "goes on"
    return DIAL.get(name, f"{name} {{}}").format(value)


def _steps(folder: Path) -> list[dict[str, Any]]:
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


def _ledger(path: Path, missing: list[str]) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The lines of the kinds in ``EVENTS``, and the refunds by reason."""
    kept, refunded, good = list[dict[str, Any]](), Counter[str](), 0
    try:
        for line in read_standing(path):
            good = line["line"]
            if line["event"] == "refunded":
                refunded[line["reason"]] += 1
            elif line["event"] in EVENTS:
                kept.append(line)
    except (AuditError, DataError) as error:  # to judge the ledger is the audit's work; here it is a source like others
        missing.append(f"The ledger is used up to line {good}: {error}.")
    return kept, refunded


def _loads(path: Path, missing: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        missing.append("workers.jsonl is not there: nothing is known of the workers' weight loads.")
        return []
    records = []
    for text in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # a torn line; this file is a view, and other lines tell the same
            records.append(line_of_ours(text))
    return [record for record in records if "weights/load_s" in record]


def _evaluations(folder: Path, missing: list[str]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*/evaluations.jsonl")):
        try:
            lines += [line_of_ours(text) for text in path.read_text(encoding="utf-8").splitlines()]
        except (ValueError, OSError) as error:
            missing.append(f"evaluations/{path.parent.name} cannot be read: {error}.")
    return [line for line in lines if "avg_at_n" in line]


def sources(run: RunData) -> list[str]:
    """The names of the run's sources of prompts, where there are several."""
    return [key.split("/")[1] for key in run.keys("source/") if key.endswith("/share")]
