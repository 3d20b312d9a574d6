"""``leeway sweep``: every point of a grid is a whole run of ``leeway up``, one after the other.

::

    FOLDER/
      sweep.toml  base.toml     the grid and the number of seeds; the configuration that all points share
      runs/POINT/               a run's folder each
      logs/POINT.log            what its ``leeway up`` said
      sweep.csv  steps.csv  sweep.png  frontier.png  report.html

The folder is the state: a point is finished when its run's ledger has its end. So the same command goes on where an
earlier one stopped, and goes on with a run that was under way from its checkpoint.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import tomlkit
import typer

from ...common.children import leaving_with_parent
from ...common.config import Config, compose, config_in, dump, text_in, toml_in
from ...common.errors import ConfigError, DataError, RoleDiedError, RunExistsError
from ...common.files import write_whole
from ...common.fingerprint import data_paths, of_run_inputs
from ...common.locks import only_writer
from ...common.progress import Progress
from ...common.stopping import STOPPED
from ...common.wording import age, counted
from ..looking.left import is_finished
from ..running.last_words import last_lines
from ..running.own_code import with_digests
from . import sweepdata
from .grid import Axis, Point, axes, configurations, points

POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep is."""

    grid: list[Axis]
    seeds: int
    """How many runs every setting has; their ``flow.seed`` is 0, 1, …"""
    base: Config
    """The configuration that all points share."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Fingerprints, from when the sweep was begun, of the files that its points train on."""

    def points(self) -> list[Point]:
        """The points, in the order in which they run."""
        return points(self.grid, list(range(self.seeds)))

    def write(self, folder: Path) -> None:
        """Write the plan into ``folder``, for the next time."""
        grid = [f"{axis.key}={','.join(axis.values)}" for axis in self.grid]
        write_whole(folder / "base.toml", dump(self.base))
        write_whole(folder / "sweep.toml", tomlkit.dumps({"grid": grid, "seeds": self.seeds, "inputs": self.inputs}))

    @classmethod
    def read(cls, folder: Path) -> Plan:
        """The plan that ``folder`` was begun with."""
        told = toml_in(folder / "sweep.toml")
        return cls(axes(told["grid"]), told["seeds"], config_in(folder / "base.toml"), told.get("inputs", {}))


def sweep(
    presets: list[str],
    settings: list[str],
    grid: list[str],
    seeds: int | None,
    out: Path | None,
    redis_url: str | None,
    *,
    report_only: bool,
) -> None:
    """Run what is not finished, then write the report.

    Raises ``ConfigError`` for a grid that cannot be or that is not the folder's, ``RoleDiedError`` where points failed.
    """
    folder, plan = _planned(presets, settings, grid, seeds, out, report_only=report_only)
    if report_only:
        typer.echo(f"report: {report_of(folder, plan)}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _told_how_to_go_on(folder), only_writer(folder / "lock", str(folder), error=RunExistsError) as lock:
        plan.write(folder)
        failed = run_all(folder, plan, redis_url, lock)
        if len(failed) < len(plan.points()):
            typer.echo(f"report: {report_of(folder, plan)}")
    if failed:
        names = ", ".join(point.name for point in failed)
        raise RoleDiedError(
            f"{len(failed)} of {counted(len(plan.points()), 'point')} failed: {names}; {_again(folder)} tries again"
        )


def _planned(
    presets: list[str],
    settings: list[str],
    grid: list[str],
    seeds: int | None,
    out: Path | None,
    *,
    report_only: bool = False,
) -> tuple[Path, Plan]:
    """(the sweep's folder, its plan). The plan is the one that is asked for, or the folder's; where there are both,
    they must agree."""
    if out is None:
        if not presets:
            raise ConfigError(
                "name a --preset and a --grid to begin a sweep, or its folder with --out to go on with one"
            )
        out = Path("runs") / f"sweep-{Path(presets[-1]).stem}"
    begun = Plan.read(out) if (out / "sweep.toml").exists() else None
    if begun is None and out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty and holds no sweep; choose another --out")
    if not presets:
        if settings or grid:
            raise ConfigError("--set and --grid need their --preset; to go on with a sweep, --out alone is enough")
        if begun is None:
            raise DataError(f"{out}: no sweep there to go on with; begin one with --preset and --grid")
        begun = replace(begun, seeds=begun.seeds if seeds is None else seeds)
        if not report_only:
            _refuse_changed(out, begun)
        return out, begun
    runs = seeds if seeds is not None else begun.seeds if begun else 3
    base = compose(presets, settings)
    asked = Plan(axes(grid), runs, base, of_run_inputs(base) if report_only else _inputs(base))
    configurations(asked.grid, presets, settings)  # refuses impossible settings before anything is written or started
    asked.points()
    if begun is not None:
        _refuse_another(out, begun, asked)
        if not report_only:
            _refuse_changed(out, begun)
    return out, asked


def _refuse_another(folder: Path, begun: Plan, asked: Plan) -> None:
    """``ConfigError`` where the folder holds another sweep. A sweep with more seeds, or fewer, is the same sweep."""
    then, now = _flat(begun), _flat(asked)
    other = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    if other:
        differ = "; ".join(f"{key} was {then.get(key, 'not there')}, is {now.get(key, 'not there')}" for key in other)
        raise ConfigError(
            f"{folder} holds another sweep ({differ}); choose another --out, or go on with {_again(folder)}"
        )


def _inputs(base: Config) -> dict[str, str]:
    """Fingerprints of the files that the points of ``base`` train on, by key, and the digests of the user's code."""
    noted = with_digests(base)
    codes = {"rewards": noted.verifier.rewards_digest}
    if noted.environment is not None:
        codes["environment"] = noted.environment.digest
    codes["loss"] = noted.objective.loss_digest
    return of_run_inputs(base) | {
        section: code for section, code in codes.items() if code is not None and code != "any"
    }


def _refuse_changed(folder: Path, begun: Plan) -> None:
    """``ConfigError`` where files have changed: the points of one sweep train on the same rows from the same
    weights."""
    now = _inputs(begun.base)
    for key, mark in begun.inputs.items():
        if now.get(key, mark) != mark:
            base = begun.base
            path = {
                **data_paths(base),
                "model.path": base.model.path,
                "rewards": ", ".join(reward.use for reward in base.rewards),
                "environment": base.environment and base.environment.use,
            }[key]
            raise DataError(
                f"{key} = {path}: changed since {folder} was begun ({mark} then, {now[key]} now), and what is finished "
                "was trained on the old one; put it back, or choose another --out"
            )


def _flat(plan: Plan) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, section in plan.base.model_dump(mode="json").items():
        # Stages, rewards and several sources are lists of sections, each compared whole; there may be no environment.
        whole = not isinstance(section, dict)
        flat |= {name: section} if whole else {f"{name}.{key}": it for key, it in section.items()}
    return flat | {f"--grid {axis.key}": ",".join(axis.values) for axis in plan.grid}


def _again(folder: Path) -> str:
    return f"leeway sweep --out {folder}"


@contextmanager
def _told_how_to_go_on(folder: Path) -> Iterator[None]:
    """A context in which Ctrl-C, SIGTERM and SIGHUP are the same: say how to go on, and leave with ``STOPPED``."""

    def interrupt(_signum: int, _frame: object) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopped; go on with: {_again(folder)}", err=True)
        raise SystemExit(STOPPED) from None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _finished(folder: Path, point: Point) -> bool:
    return is_finished(folder / "runs" / point.name)


def report_of(folder: Path, plan: Plan) -> Path:
    from .sweep_report import write_report

    every = plan.points()
    finished = [point for point in every if _finished(folder, point)]
    if not finished:
        raise DataError(f"{folder}: no point is finished yet, so there is nothing to report")
    missing = [point.name for point in every if point not in finished]
    found = sweepdata.read(folder.resolve().name, folder / "runs", plan.grid, finished, missing)
    return write_report(found, folder, text_in(folder / "base.toml"))


# --- running ---------------------------------------------------------------------------------------------------------


def run_all(folder: Path, plan: Plan, redis_url: str | None, lock: IO[str]) -> list[Point]:
    """Run every point that is not finished; returns those that failed."""
    every = plan.points()
    left = [point for point in every if not _finished(folder, point)]
    steps = {point: compose([str(folder / "base.toml")], point.settings).train.steps for point in every}
    failed = []
    if len(left) < len(every):
        typer.echo(f"finished already: {len(every) - len(left)} of {counted(len(every), 'point')}")
    with _Progress(sum(steps.values()), sum(steps[point] for point in every if point not in left)) as progress:
        for point in left:
            began = time.monotonic()
            code = _run(folder, point, redis_url, lock, progress)
            progress.ended(steps[point])
            place = f"[{every.index(point) + 1}/{len(every)}] {point.name}"
            if code == 0:
                took = f"{time.monotonic() - began:.0f} s"
                progress.say(f"{place}: {_numbers(folder, plan, point)}; {took}; {progress.time_left()}")
            else:
                failed.append(point)
                progress.say(f"{place}: failed with exit code {code}; {last_lines(_log(folder, point), 6)}")
    return failed


def _run(folder: Path, point: Point, redis_url: str | None, lock: IO[str], progress: _Progress) -> int:
    """Run one point, in a process and a session of its own, and return its exit code. When interrupted, this waits
    until the run has left."""
    log = _log(folder, point)
    log.parent.mkdir(exist_ok=True)
    environment = os.environ | ({"LEEWAY_REDIS_URL": redis_url} if redis_url else {})
    with log.open("ab") as output:
        process = subprocess.Popen(
            leaving_with_parent([sys.executable, "-m", "leeway_rl.leeway.cli", *_words(folder, point)]),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
    try:
        with closing(Progress(folder / "runs" / point.name)) as made:
            while True:
                try:
                    return process.wait(POLL_S)
                except subprocess.TimeoutExpired:
                    progress.show(point, made.look())
    except KeyboardInterrupt:
        progress.say(f"stopping: {point.name} finishes its step and writes a checkpoint (again to leave at once)")
        _see_off(process)
        raise


def _words(folder: Path, point: Point) -> list[str]:
    """Arguments of ``leeway up``, which begin the point's run or go on with it."""
    runs = folder / "runs"
    words = ["up", "--run", point.name, "--runs-dir", str(runs)]
    if (runs / point.name / "config.toml").exists():
        return [*words, "--resume"]
    if (runs / point.name).exists():  # the run was killed before it had begun
        shutil.rmtree(runs / point.name)
    words += ["--preset", str(folder / "base.toml")]
    return words + [word for setting in point.settings for word in ("--set", setting)]


def _see_off(process: subprocess.Popen[bytes]) -> None:
    """Ask the run to leave, as often as we are asked, and wait for it, so that it leaves none of its roles behind."""
    while process.poll() is None:
        process.terminate()
        with suppress(KeyboardInterrupt):
            process.wait()


def _numbers(folder: Path, plan: Plan, point: Point) -> str:
    """A finished point in a few words."""
    found = sweepdata.read("", folder / "runs", plan.grid, [point], []).numbers[point.setting, point.seed]
    return (
        f"{found['steps_per_hour']:.0f} steps/h, staleness {found['head_staleness']:.2f}, "
        f"entropy {found['entropy']:.3f}, reward {found['reward']:.3f}"
    )


def _log(folder: Path, point: Point) -> Path:
    return folder / "logs" / f"{point.name}.log"


class _Progress:
    """A progress bar over the training steps of all points, with the time left at this command's own pace."""

    def __init__(self, steps: int, made: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._steps, self._before, self._made, self._began = steps, made, made, time.monotonic()
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps, {task.fields[left]}; {task.description}"))
        # The bar is drawn once a second, because the machine's cores belong to the run.
        self._progress = Progress(*columns, refresh_per_second=1, disable=not sys.stdout.isatty())
        self._bar = self._progress.add_task("", total=steps, completed=made, left=self.time_left())

    def __enter__(self) -> _Progress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, point: Point, made: int) -> None:
        """Show that ``made`` steps of ``point`` are done."""
        self._progress.update(
            self._bar, description=point.name, completed=self._made + made, left=self.time_left(self._made + made)
        )

    def ended(self, steps: int) -> None:
        """Count a point of ``steps`` steps that is over."""
        self._made += steps

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def time_left(self, made: int | None = None) -> str:
        """The time left, by what the steps of this command have taken so far, starts of runs included."""
        made = self._made if made is None else made
        if made == self._before:
            return "time left unknown"
        seconds = (time.monotonic() - self._began) / (made - self._before) * (self._steps - made)
        return f"{age(seconds)} left"
