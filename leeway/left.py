"""What a run's folder tells when its server has left: how far the run is, from the ends of its files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..common.errors import AuditError
from ..common.json_text import line_of_ours
from ..common.ledger import is_complete
from ..common.tail import lines_backwards


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """How far a run has come."""

    finished: bool
    """Whether its ledger has its end."""
    step: int
    """Training steps made."""
    steps: int | None
    """Those it is to make; None where the ledger does not begin."""

    def state(self) -> dict[str, str]:
        """As the learner words it."""
        told = {"phase": "finished" if self.finished else "stopped", "step": str(self.step), "version": str(self.step)}
        return told | ({} if self.steps is None else {"steps": str(self.steps)})


def left(folder: Path) -> Left:
    """How far the run in ``folder`` has come. Whether its ledger is sound is not asked here."""
    try:
        finished = is_complete(folder)
    except AuditError:
        finished = False
    return Left(finished=finished, step=_step(folder / "metrics.jsonl"), steps=_steps(folder / "ledger.jsonl"))


def _step(metrics: Path) -> int:
    newest = list(islice(lines_backwards(metrics), 1)) if metrics.exists() else []
    try:
        return int(line_of_ours(newest[0])["version"]) if newest else 0
    except (ValueError, KeyError, TypeError):
        return 0


def _steps(ledger: Path) -> int | None:
    if not ledger.exists():
        return None
    with ledger.open("rb") as file:
        try:
            return int(line_of_ours(file.readline())["steps"])
        except (ValueError, KeyError, TypeError):
            return None
