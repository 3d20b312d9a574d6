"""Makes runs of the loop, one on each core, with one thread each. A run's CSV is whole or it is not there, so a study
that is stopped can go on, and a run that several studies share is made once."""

import csv
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..common.config import Config
from ..common.files import unfinished, whole_file
from .tail import Tail


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, which is made or still to be made."""

    config: Config
    steps: int
    path: Path
    """Its CSV, one line for each training step, with the columns of ``loop.COLUMNS``; a value that was not measured is
    empty."""
    tail: Tail | None = None
    evaluate_every: int = 0
    """Steps between evaluations; 0 means none."""

    @property
    def whole(self) -> bool:
        """Whether the run has been made."""
        return self.path.exists() and _lines(self.path) == self.steps

    def progress(self) -> int:
        """Steps made so far."""
        part = unfinished(self.path)
        return self.steps if self.whole else _lines(part) if part.exists() else 0

    def series(self, column: str) -> np.ndarray:
        """A column of a run that has been made, [steps]; NaN where it was not measured."""
        with self.path.open() as file:
            return np.array([float(row[column] or "nan") for row in csv.DictReader(file)])


def make_missing(runs: Sequence[Run], jobs: int | None = None) -> None:
    """Make the runs that are not made yet, ``jobs`` side by side (one for each core by default), with a progress bar.

    A run's numbers do not depend on what runs beside it or was made before it. Raises what a run raised, after the
    others are made.
    """
    missing = list({run.path: run for run in runs if not run.whole}.values())
    for run in missing:
        run.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished(run.path).unlink(missing_ok=True)
    if not missing:
        return
    cores = sorted(os.sched_getaffinity(0))
    jobs = min(jobs or len(cores), len(missing))
    spawn = multiprocessing.get_context("spawn")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeElapsedColumn(), TimeRemainingColumn())
    with spawn.Manager() as manager, Progress(*columns) as progress:
        free = manager.Queue()
        for job in range(jobs):
            free.put(cores[job % len(cores)])
        bar = progress.add_task("", total=sum(run.steps for run in missing))
        with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_pin, initargs=(free,)) as pool:
            making = [pool.submit(_make, run) for run in missing]
            try:
                while wait(making, timeout=1).not_done:
                    progress.update(bar, completed=sum(run.progress() for run in missing))
            except KeyboardInterrupt:  # SIGTERM asked only us to stop, not the processes that we started
                for child in multiprocessing.active_children():
                    child.terminate()
                raise
            finally:
                pool.shutdown(cancel_futures=True)
        progress.update(bar, completed=sum(run.progress() for run in missing))
    for future in making:
        future.result()


def _pin(free: Any) -> None:
    """Keep a worker process to one core, and to one thread before anything asks for more."""
    os.sched_setaffinity(0, {free.get()})
    os.environ["OMP_NUM_THREADS"] = "1"


def _make(run: Run) -> None:
    from .loop import COLUMNS, training

    with whole_file(run.path) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("step", *COLUMNS))
        made = training(run.config, run.steps, tail=run.tail, evaluate_every=run.evaluate_every)
        for step, metrics in enumerate(made):
            rows.writerow((step, *(f"{metrics[name]:.6g}" if name in metrics else "" for name in COLUMNS)))
            file.flush()


def _lines(path: Path) -> int:
    """Number of steps in a CSV, without its header."""
    return max(0, len(path.read_text().splitlines()) - 1)
