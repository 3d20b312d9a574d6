"""``leeway status --json``: one object whose keys and kinds of values are always the same, whatever it tells."""

import time
from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from ...common import profiles
from ...common.activity import from_json
from ...common.diagnosis import Diagnosis, Snapshot, over
from ...common.queue.entries import number, whole
from ...common.step_line import read_hardware
from ...common.wording import words


class Situation(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    STALLED = "stalled"
    """Nothing will move until somebody acts."""
    FINISHED = "finished"
    STOPPED = "stopped"
    NO_SERVER = "no_server"
    """Its Redis cannot be reached, or refuses."""
    NO_RUN = "no_run"
    """There is no such run, or Redis does not know it."""


STATE: dict[str, Callable[[str], Any]] = {
    "phase": str,
    "step": whole,
    "steps": whole,
    "stage": whole,
    "stages": whole,
    "version": whole,
    "live": whole,
    "ready": whole,
    "incarnation": whole,
    "max_staleness": whole,
    "asked_bound": str,
    "overflow": str,
    "pipeline_depth": whole,
    "waiting": str,
    "doing": lambda text: asdict(from_json(text)),
    "leader": str,
    "poisoned": whole,
    "poison": str,
    "stalled": str,
    "at": number,
    "overdue": whole,
    "overdue_last": str,
    "overdue_at": number,
    "unwritten": str,
    "uncopied": str,
    "early_warning": str,
    "hardware": read_hardware,
    "profile": lambda text: asdict(answer) if (answer := profiles.from_json(text)) is not None else None,
}
"""Fields of the learner's state, and how the text of each is read. All other fields stay text."""

_OF_A_LOOK = (
    "workers",
    "lost",
    "queued",
    "under_way",
    "held_by_lost",
    "verdicts",
    "alike",
    "paused",
    "redis",
    "stopped",
)
"""Keys whose values only Redis can tell."""


def of_look(now: Snapshot, found: Diagnosis) -> dict[str, Any]:
    """The object for a look at a run's Redis. Pure."""
    if over(now):
        situation = Situation(now.state["phase"])
    else:
        situation = Situation.STALLED if found.stalled else Situation.RUNNING
    groups, reward = now.alike
    seen = asdict(now) | {
        "workers": [asdict(worker) | {"activity": words(worker.doing)} for worker in now.workers],
        "verdicts": [
            {name: text if name == "why" else int(text) for name, text in minute.items()} for minute in now.verdicts
        ],
        "alike": {"groups": groups, "reward": float(reward) if reward else None},
    }
    told = of_folder(now.run, situation, found.sentence, now.state, stalled=found.stalled, at=now.at)
    return told | {name: seen[name] for name in _OF_A_LOOK} | {"alarms": found.alarms}


def of_folder(
    run: str | None,
    situation: Situation,
    sentence: str,
    state: dict[str, str],
    *,
    stalled: bool,
    at: float | None = None,
) -> dict[str, Any]:
    """The object for what can be told without Redis; ``state`` is as the learner tells it. Pure but for the clock."""
    if "doing" in state:
        state = state | {"waiting": words(from_json(state["doing"]))}
    return {
        "run": run,
        "at": time.time() if at is None else at,
        "situation": situation.value,
        "stalled": stalled,
        "sentence": sentence,
        "alarms": [],
        "state": {name: read(state[name]) if state.get(name) else None for name, read in STATE.items()}
        | {name: text for name, text in state.items() if name not in STATE},
        "node": None,
        **dict.fromkeys(_OF_A_LOOK),
    }
