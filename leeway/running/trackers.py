"""Which trackers a run may have, what they need, and the command that feeds one."""

import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import get_args

from ...common.children import leaving_with_parent
from ...common.config import Config, Tracker
from ...common.config.data import named
from ...common.errors import ConfigError
from .supervise import Role

TRACKERS: tuple[Tracker, ...] = get_args(Tracker)
NEEDS: dict[Tracker, tuple[str, ...]] = {
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),  # mlflow-skinny comes without the two that its sqlite store uses
}
"""The modules that each of them needs. The extra that brings them has the tracker's name."""


def known(names: Iterable[str]) -> list[Tracker]:
    """The trackers of these names. ``ConfigError`` where there is no such tracker, or its package is not here."""
    found = list(dict.fromkeys(names))
    for name in found:
        if name not in TRACKERS:
            raise ConfigError(f"no tracker is called {name!r}; {named(name, TRACKERS)}")
    trackers = [name for name in TRACKERS if name in found]
    refuse_missing(trackers)
    return trackers


def refuse_missing(trackers: Iterable[Tracker]) -> None:
    """``ConfigError`` where the package of one of these trackers is not here."""
    if (why := why_missing(trackers)) is not None:
        raise ConfigError(why)


def why_missing(trackers: Iterable[Tracker]) -> str | None:
    """A sentence on the first of these trackers whose package is not here; None where all are."""
    for tracker in trackers:
        for module in NEEDS[tracker]:
            if find_spec(module) is None:
                return f"the tracker {tracker} needs {module}, which is not here: pip install 'leeway-rl[{tracker}]'"
    return None


def tracker_role(tracker: Tracker, folder: Path, project: str, log: Path | None, *, wait: bool) -> Role:
    """The process that feeds one tracker from a run's folder. The run does without it where it cannot go on. With
    ``wait`` it follows the run until it is finished, though no process of this machine is at work in the folder."""
    words = [tracker, str(folder), "--project", project, *(["--wait"] if wait else [])]
    command = [sys.executable, "-m", "leeway_rl.leeway.tracking", *words]
    return Role(f"tracker-{tracker}", command, log, threads=1, essential=False)


def start_beside(config: Config, run: str, runs_dir: Path) -> None:
    """Start `leeway track` for the run's trackers, as a process that leaves when this one ends. This one may become
    another program in between. ``ConfigError`` where a package is missing."""
    if not (trackers := known(config.metrics.trackers)):
        return
    to = [word for tracker in trackers for word in ("--to", tracker)]
    words = ["track", "--run", run, "--runs-dir", str(runs_dir), "--wait", *to]
    command = [sys.executable, "-m", "leeway_rl.leeway.cli", *words]
    Popen(leaving_with_parent(command), stdin=DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
