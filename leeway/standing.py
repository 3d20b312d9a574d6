"""How a run stands, from its folder alone: at work, finished, stopped or crashed, and how far it is. What is read does
not grow with the run: the ends of its files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..common.json_text import line_of_ours
from ..common.locks import is_held
from ..common.tail import lines_backwards
from .left import left

State = Literal["running", "finished", "stopped", "crashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a run stands."""

    run: str
    state: State
    """``running``: a process of this machine is at work in the folder. ``finished``: the ledger has its end.
    ``stopped``: a checkpoint covers the last step, so that a resume loses nothing. ``crashed``: it does not."""
    step: int
    """Training steps made."""
    steps: int | None
    """Training steps due; None where its ledger does not say."""
    reward: float | None
    """Mean reward of the last step."""
    at: float
    """Unix time of the last step, or of the folder's last change where there was none."""
    bytes: int
    """What the folder takes on disk."""


def standing(folder: Path) -> Standing:
    """How the run in ``folder`` stands."""
    last, so_far = next(_backwards(folder / "metrics.jsonl"), {}), left(folder)
    return Standing(
        run=folder.resolve().name,
        state=state_of(folder),
        step=so_far.step,
        steps=so_far.steps,
        reward=last.get("reward/mean"),
        at=float(last.get("at", folder.stat().st_mtime)),
        bytes=_size(folder),
    )


def state_of(folder: Path) -> State:
    """At work, finished, stopped or crashed."""
    if any(is_held(folder / name) for name in ("lock", "learner.lock")):
        return "running"
    for line in _backwards(folder / "ledger.jsonl"):
        match line.get("event"):
            case "end":
                return "finished"
            case "checkpoint":
                return "stopped"
            case "step" | "trained":
                return "crashed"
    return "crashed"


def not_ended(ledger: Path, where: str) -> str:
    """What to say first of a ledger that has no end; ``where`` the run stands by it."""
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


def _backwards(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSONL file from its end, as far as somebody asks; none where it is not there. Lines that are no
    JSON objects are left out: here we look, and the audit judges."""
    if not path.exists():
        return
    for text in lines_backwards(path):
        try:
            line = line_of_ours(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except OSError:  # a checkpoint that was removed meanwhile
                continue
    return total
