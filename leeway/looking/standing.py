"""How a run stands, from its folder alone: at work, finished, stopped or crashed, and how far it has come. Only the
ends of its files are read, so the work does not grow with the run."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...common.locks import is_held
from .left import newest_step, objects_backwards, steps_due, steps_made

State = Literal["running", "finished", "stopped", "crashed", "unreadable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run stands."""

    run: str
    state: State
    """``running``: a process of this machine is at work in the folder. ``finished``: the ledger has its end.
    ``stopped``: a checkpoint covers the last step, so a resume loses nothing. ``crashed``: no checkpoint covers it.
    ``unreadable``: the system does not let us read its files."""
    step: int
    """Training steps made."""
    steps: int | None
    """Training steps due; None where the ledger does not say."""
    reward: float | None
    """Mean reward of the last step."""
    at: float
    """Unix time of the last step, or of the folder's last change where there was none."""
    bytes: int
    """Bytes that the folder takes on disk."""


def standing(folder: Path) -> Standing:
    """How the run in ``folder`` stands."""
    run, changed, size = folder.resolve().name, folder.stat().st_mtime, _size(folder)
    try:
        last = newest_step(folder)
        reward, at = _number(last, "reward/mean"), _number(last, "at")
        return Standing(
            run=run,
            state=state_of(folder),
            step=steps_made(folder, last),
            steps=steps_due(folder),
            reward=reward,
            at=changed if at is None else at,
            bytes=size,
        )
    except OSError:
        return Standing(run=run, state="unreadable", step=0, steps=None, reward=None, at=changed, bytes=size)


def _number(line: dict[str, Any], name: str) -> float | None:
    """A number of a line of ``metrics.jsonl``; None where the line has none of that name."""
    value = line.get(name)
    return float(value) if isinstance(value, int | float) else None


def state_of(folder: Path) -> State:
    """Whether the run in ``folder`` is at work, finished, stopped or crashed."""
    if any(is_held(folder / name) for name in ("lock", "learner.lock")):
        return "running"
    covered = -1
    for line in objects_backwards(folder / "ledger.jsonl"):
        match line.get("event"):
            case "end":
                return "finished"
            case "checkpoint":  # it may have been written beside later steps
                covered = max(covered, line.get("step", -1))
            case "step":
                return "stopped" if covered >= line.get("version", 0) else "crashed"
            case "trained":
                return "crashed"
    return "stopped" if covered >= 0 else "crashed"


def not_ended(ledger: Path, where: str) -> str:
    """What to say first of a ledger that has no end; ``where`` is how far the ledger goes."""
    folder = ledger.parent
    if ledger.name != "ledger.jsonl":
        return f"{ledger} has no end: it goes to {where}"
    run = folder.resolve().name
    match state_of(folder):
        case "running":
            return f"run {run} is at work, at {where}"
        case state:
            resume = f"leeway up --run {folder} --resume, or on a cluster its learner, goes on from its checkpoint"
            return f"run {run} {'has crashed' if state == 'crashed' else 'is stopped'} at {where}: {resume}"


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # the checkpoint was removed in the meantime
                continue
    return total
