"""Follows one run for one tracker, until the run is over or the process is asked to leave."""

import os
import signal
import sys
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...common.config import Tracker as Name
from ...common.config import toml_in
from ...common.errors import RoleDiedError, RunExistsError
from ...common.ledger import last
from ...common.locks import only_writer
from ...common.stopping import STOPPED
from ..looking.standing import state_of
from .news import Folder, Samples, Step, Turn, read_mark, write_mark
from .tracker import About, Tracker

POLL_S = 2.0
LAST_S = 20.0
"""Seconds that a tracker has for what is left, once it is asked to leave."""
LATE_S = 30.0
"""Seconds for which the last step's measurements may come after the end of the run; the sink writes them beside it."""
SETTLED_S = 2.0
"""Seconds after which what a tracker's package took counts as sent: the packages write behind our back. A tracker that
dies is sent again what came in its last seconds."""


def opened(name: Name, about: About, id: str) -> Tracker:
    """The tracker of this name with the run in it: a new one, or the one that it calls ``id`` where ``id`` is not
    empty."""
    match name:
        case "wandb":
            from .to_wandb import ToWandb

            return ToWandb(about, id)
        case "trackio":
            from .to_trackio import ToTrackio

            return ToTrackio(about, id)
        case "mlflow":
            from .to_mlflow import ToMlflow

            return ToMlflow(about, id)


class Following:
    """One tracker, and how far it has come with a run."""

    def __init__(self, name: Name, folder: Path, files: Folder, project: str) -> None:
        """Open the tracker for the run in ``folder``, where it stopped. ``files``: what is read of the folder."""
        self._kept = folder / "trackers" / f"{name}.json"
        self._files, self._path = files, folder
        self.mark = read_mark(self._kept)
        self._tracker = opened(name, About(folder=folder, project=project, config=config_of(folder)), self.mark.id)
        self.mark = replace(self.mark, id=self._tracker.id)
        write_mark(self._kept, self.mark)
        self._settling, self._reached_at = self.mark, time.monotonic()
        self._ended_at: float | None = None

    def look(self) -> None:
        """Send what is new."""
        for news, mark in self._files.news(self.mark):
            match news:
                case Step():
                    self._tracker.step(news, mark.rows)
                case Turn():
                    self._tracker.turn(news)
                case Samples():
                    self._tracker.samples(news, mark.rows)
            self.mark = mark
            self._keep_mark()
        self._tracker.flush()

    def _keep_mark(self) -> None:
        """Write the mark that has settled, if one has, and wait for the present one to settle."""
        now = time.monotonic()
        if now - self._reached_at >= SETTLED_S and self._settling != self.mark:
            write_mark(self._kept, self._settling)
            self._settling, self._reached_at = self.mark, now

    @property
    def finished(self) -> bool:
        """Whether the run is complete and its last step was sent. Where the last steps never come, it is said once."""
        end = _end(self._path)
        if end is None or self.mark.step + 1 >= end:
            return end is not None
        self._ended_at = self._ended_at or time.monotonic()
        late = time.monotonic() - self._ended_at > LATE_S
        if late:
            print(f"metrics.jsonl ends with step {self.mark.step}, the run with step {end - 1}", file=sys.stderr)
        return late

    @property
    def where(self) -> str:
        """Where the run can be looked at."""
        return self._tracker.where

    def close(self) -> None:
        """End the run in the tracker; it is taken up again where it goes on."""
        self._tracker.close(finished=_end(self._path) is not None)
        write_mark(self._kept, self.mark)


def follow(name: Name, folder: Path, project: str, *, wait: bool) -> int:
    """Feed a tracker until the run is complete, or until nobody on this machine is at work in its folder, unless
    ``wait``. Returns the exit code: 0, or ``STOPPED`` where it was asked to leave before. ``RunExistsError`` where
    another process feeds the same tracker from the same folder."""
    stopping = stop_on_signals(name, folder)
    place = f"{folder}: the tracker {name}"
    lock = only_writer(folder / "trackers" / f"{name}.lock", place, error=RunExistsError)
    with lock, closing(Folder(folder)) as files:
        following = Following(name, folder, files, project)
        while True:
            asked = stopping.is_set()
            idle = not wait and state_of(folder) != "running"  # asked before the look, which then sees the last step
            following.look()
            if (finished := following.finished) or asked or idle:
                break
            stopping.wait(POLL_S)
        following.close()
    print(f"{name} has every step up to {following.mark.step}: {following.where}")
    return STOPPED if asked and not finished else 0


def stop_on_signals(name: Name, folder: Path) -> threading.Event:
    """An event that SIGTERM and Ctrl-C set. A tracker that takes longer than ``LAST_S`` from then on is left: its
    package may wait for a network for ever."""
    stopping = threading.Event()

    def leave() -> None:
        again = f"leeway track {folder} --to {name} sends the rest"
        print(f"{name} did not take everything within {LAST_S:.0f} s; {again}", file=sys.stderr, flush=True)
        os._exit(RoleDiedError.exit_code)

    def ask(_signum: int, _frame: object) -> None:
        if not stopping.is_set():
            stopping.set()
            timer = threading.Timer(LAST_S, leave)
            timer.daemon = True
            timer.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return stopping


def _end(folder: Path) -> int | None:
    """The version with which the run is complete; None where it is not."""
    path = folder / "ledger.jsonl"
    line = last(path) if path.exists() else None
    return line["version"] if line is not None and line["event"] == "end" else None


def config_of(folder: Path) -> dict[str, Any]:
    """The run's configuration by section; nothing where the folder does not have it."""
    path = folder / "config.toml"
    return toml_in(path) if path.exists() else {}
