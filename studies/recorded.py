"""Runs as read from the CSV beside a study's page, so that they can be judged again without being made again."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.errors import DataError
from .study import Setting, Study

CORES = 2
"""Cores of the machine that made the runs in docs/studies."""
SINCE = """\
The runs were committed on 28 November 2026. Later that day `tiny` began to reward nothing but the number (commit
4210040). Before that its answers were judged as mathematics, where a copy of the question counts as its answer. The
runs have not been made again since, so the same commands may give other numbers today."""
"""What has changed since those runs. To be emptied when they are made again."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run, read back."""

    columns: Mapping[str, np.ndarray]
    """Columns by name, each [steps]; NaN where nothing was measured."""

    @property
    def steps(self) -> int:
        """Training steps that it made."""
        return len(self.columns["step"])

    def series(self, column: str) -> np.ndarray:
        """[steps], NaN where it was not measured."""
        return self.columns[column]


def recorded(study: Study, path: Path) -> dict[Setting, list[Recorded]]:
    """The runs of every setting, one for each seed, in the study's order. ``DataError`` where the file lacks a run."""
    rows: dict[tuple[str, int], list[dict[str, str]]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            rows[row.pop("setting"), int(row.pop("seed"))].append(row)
    missing = [(s.name, seed) for s in study.settings for seed in study.seeds if (s.name, seed) not in rows]
    if missing:
        raise DataError(f"{path}: no row of setting {missing[0][0]!r} with seed {missing[0][1]}")
    return {setting: [_run(rows[setting.name, seed]) for seed in study.seeds] for setting in study.settings}


def _run(rows: Sequence[Mapping[str, str]]) -> Recorded:
    return Recorded({name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]})
