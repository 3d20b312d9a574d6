"""A rehearsal: faults strike a run by a timetable, each is logged, and each that lasts is ended."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

import redis
import typer

from ...common import address
from ...common.children import leaving_with_parent
from ...common.errors import ConfigError, DataError
from ...common.ledger import is_complete
from ...common.progress import Progress
from ...common.stopping import STOPPED
from ...common.tables import as_text, table
from ..running.server import EmbeddedServer
from .clock import Clock
from .faults import FAULTS, NothingThere
from .hanging import Hanging
from .preload import together
from .proxy import Proxy
from .target import Target, small_disk
from .timetable import Planned, timetable

TRY_S = 8.0  # how long a fault that finds nothing to hit is tried again
TICK_S = 0.1


@dataclass(slots=True)
class Tally:
    """What a rehearsal has done."""

    struck: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    """By kind: faults that found nothing to hit, or could not be done on this machine."""

    def table(self) -> str:
        """One line for each kind: its name, how often it struck and was skipped, and what it does."""
        rows = [
            (name, str(self.struck[name]), str(self.skipped[name]), FAULTS[name].meaning)
            for name in FAULTS
            if name in self.struck or name in self.skipped
        ]
        total = ("all", str(self.struck.total()), str(self.skipped.total()), "")
        return as_text(table(("fault", "struck", "skipped", ""), [*rows, total], right={1, 2}))


class Rehearsal:
    """Strikes a target until the plan or the run is over."""

    def __init__(self, target: Target, plan: list[Planned], progress: Progress, per_step: float = inf) -> None:
        """Make at most ``per_step`` faults a training step, whatever the times of the plan: where a run is slow, the
        plan waits for it, so that faults fall on the whole run. ``progress``: the run's."""
        self.target, self.plan, self.per_step = target, plan, per_step
        self.tally = Tally()
        self._log = (target.folder / "chaos.jsonl").open("a", encoding="utf-8")
        self._started = time.monotonic()
        self._progress = progress
        self._ending: list[tuple[float, int, str, Any]] = []
        """For each fault that lasts: when it is to be ended, its number, its kind, and the function that ends it."""

    def strike_all(self, going_on: Any) -> None:
        """Strike while ``going_on()``; every fault that lasts has ended when this returns."""
        try:
            for number, planned in enumerate(self.plan):
                while (time.monotonic() - self._started < planned.at_s or not self._may(number)) and going_on():
                    self._end_due()
                    time.sleep(TICK_S)
                if not going_on():
                    return
                self._strike(number, planned)
            while self._ending and going_on():
                self._end_due()
                time.sleep(TICK_S)
        finally:
            while self._ending:
                self._end_due(at_once=True)
            self._log.close()

    def _may(self, number: int) -> bool:
        return self.per_step == inf or number < self.per_step * self._progress.look()

    def _strike(self, number: int, planned: Planned) -> None:
        fault, rng = FAULTS[planned.kind], random.Random(planned.seed)
        if fault.needs in self.target.missing:
            self._skip(number, planned.kind, self.target.missing[fault.needs])
            return
        until, hit, why = time.monotonic() + TRY_S, None, "nothing to hit"
        while hit is None and time.monotonic() < until:
            try:
                hit = fault.strike(self.target, rng)
            except NothingThere:
                why = "nothing to hit"
            except (redis.RedisError, OSError) as error:  # Redis may be away or frozen by an earlier fault
                why = f"{type(error).__name__}: {error}"
            self._end_due()
            if hit is None:
                time.sleep(TICK_S)
        if hit is None:
            self._skip(number, planned.kind, why)
            return
        self.tally.struck[planned.kind] += 1
        self._write(number, planned.kind, "strikes", what=hit.what, lasts_s=round(hit.lasts_s, 2))
        if hit.end is not None:
            self._ending.append((time.monotonic() + hit.lasts_s, number, planned.kind, hit.end))

    def _skip(self, number: int, kind: str, why: str) -> None:
        self.tally.skipped[kind] += 1
        self._write(number, kind, "skipped", what=why)

    def _end_due(self, *, at_once: bool = False) -> None:
        for due in [each for each in self._ending if at_once or each[0] <= time.monotonic()]:
            _, number, kind, end = due
            try:
                told = end()
            except (redis.RedisError, OSError) as error:
                if at_once:  # the run is over, and perhaps its server has left too
                    self._write(number, kind, "not ended", what=str(error))
                else:
                    continue  # Redis is away or frozen: try again at the next turn
            else:
                self._write(number, kind, "ends", **({"what": told} if isinstance(told, str) else {}))
            self._ending.remove(due)

    def _write(self, number: int, kind: str, event: str, **more: Any) -> None:
        line = {
            "at": time.time(),
            "steps": self._progress.look(),
            "number": number,
            "kind": kind,
            "event": event,
            **more,
        }
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()


def chaos(
    run: str,
    runs_dir: Path,
    presets: list[str],
    settings: list[str],
    *,
    seed: int,
    count: int,
    every_s: float,
    per_step: float,
    only: list[str],
) -> None:
    """Strike a run that is under way on this machine. With presets, start the run first, with a proxy before its Redis,
    a clock that can be set, threads that can be made to hang, and a small disk."""
    for name in only:
        if name not in FAULTS:
            raise ConfigError(f"--only {name!r}: no such fault; there are {', '.join(FAULTS)}")
    plan = timetable(seed, count, every_s, {name: FAULTS[name].weight for name in only or FAULTS})
    if presets:
        with begun(run, runs_dir, presets, settings) as (target, process):
            tally = rehearse(target, plan, lambda: process.poll() is None, per_step)
            code = process.wait()
    else:
        if settings:
            raise ConfigError("--set is for a run that is started here: name its --preset too")
        target, code = _found(run, runs_dir), None
        tally = rehearse(target, plan, lambda: bool(target.processes()), per_step)
    typer.echo(tally.table())
    for name, why in target.missing.items():
        typer.echo(f"without {name}: {why}")
    typer.echo(f"log: {target.folder / 'chaos.jsonl'}")
    if code:
        raise SystemExit(code)


def rehearse(target: Target, plan: list[Planned], going_on: Any, per_step: float = inf) -> Tally:
    """Wait for the run's first training step, then strike."""
    with closing(Progress(target.folder)) as progress:
        while going_on() and not progress.look():
            time.sleep(TICK_S)
        rehearsal = Rehearsal(target, plan, progress, per_step)
        rehearsal.strike_all(going_on)
    return rehearsal.tally


def _found(run: str, runs_dir: Path) -> Target:
    folder = runs_dir / run
    noted = folder / "redis-url"
    if not noted.exists():
        raise DataError(f"{folder}: no run under leeway up there; --preset starts one")
    if is_complete(folder):
        raise DataError(f"run {run!r} is complete: there is nothing to strike at")
    named = address.parse(noted.read_text().strip())
    if named.kind is not address.Kind.SERVER or not named.nodes:
        raise DataError(f"the Redis of run {run!r} is not one server: a rehearsal strikes at one, by its port")
    ((host, port),) = named.nodes
    late = "it has to be there before the run starts: leeway chaos RUN --preset …"
    target = Target(run, folder, port, missing=dict.fromkeys(("proxy", "clock", "hanging", "disk"), late))
    if host not in ("127.0.0.1", "localhost") or target.server() is None:
        raise DataError(f"the Redis of run {run!r} is not on this machine: its faults must be made where it is")
    return target


@contextmanager
def begun(
    run: str, runs_dir: Path, presets: list[str], settings: list[str]
) -> Iterator[tuple[Target, subprocess.Popen[bytes]]]:
    """Start a run under ``leeway up``, with everything between its parts that faults need and this machine allows."""
    aside = runs_dir / f"{run}.chaos"
    if (runs_dir / run).exists() or aside.exists():
        raise DataError(f"{runs_dir / run} or {aside} is there already; choose another RUN")
    with ExitStack() as stack:
        # A driver that is told to leave must not leave a mounted disk or a stopped process behind.
        before = signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(STOPPED))
        stack.callback(signal.signal, signal.SIGTERM, before)
        missing: dict[str, str] = {}
        clock = hanging = None
        try:
            clock, hanging = Clock(aside / "preload"), Hanging(aside / "preload")
        except OSError as error:
            missing |= dict.fromkeys(("clock", "hanging"), str(error))
        environment = together(clock, hanging)
        server = stack.enter_context(EmbeddedServer(aside / "redis", environment=environment))
        proxy = stack.enter_context(Proxy(server.port))
        words = [
            "up",
            "--run",
            run,
            "--runs-dir",
            str(runs_dir),
            "--redis-url",
            f"redis://127.0.0.1:{proxy.own_port}/0",
        ]
        words += [word for preset in presets for word in ("--preset", preset)]
        words += [word for setting in settings for word in ("--set", setting)]
        disk = stack.enter_context(ExitStack())  # entered here, so that the run has left before its disk goes
        target = Target(run, runs_dir / run, server.port, proxy=proxy, clock=clock, hanging=hanging, missing=missing)
        with (aside / "up.log").open("wb") as output:
            process = subprocess.Popen(
                leaving_with_parent([sys.executable, "-m", "leeway_rl.leeway.cli", *words]),
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | environment,
            )
        stack.callback(_leave, process)
        while process.poll() is None and not (target.folder / "config.toml").exists():
            time.sleep(TICK_S)
        if process.poll() is not None:
            raise DataError(f"the run did not start: {(aside / 'up.log').read_text(errors='replace').strip()}")
        try:
            disk.enter_context(small_disk(target.folder / "checkpoints"))
            target.disk = target.folder / "checkpoints"
        except OSError as error:
            missing["disk"] = str(error)
        yield target, process


def _leave(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
