"""What every tracker can do, whoever makes it. Each has a file of its own, which imports its package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .news import Samples, Step, Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The run that a tracker is opened for."""

    folder: Path
    """The run's own folder."""
    project: str
    """What the tracker files the run under: a project, or MLflow's experiment."""
    config: dict[str, Any]
    """The run's configuration by section, as its ``config.toml`` has it."""

    @property
    def run(self) -> str:
        """The run's id."""
        return self.folder.resolve().name


class Tracker(Protocol):
    """A run in a tracker, opened for writing. Its errors are its package's own: they end the process, which is started
    again and goes on from its mark."""

    id: str
    """What the tracker calls the run. Opened with it, the same run goes on."""

    def step(self, step: Step, row: int) -> None:
        """Send a training step. ``row`` grows by one with each step and each table, and never goes back."""

    def turn(self, turn: Turn) -> None:
        """Send a note of a turn of the dial."""

    def samples(self, samples: Samples, row: int) -> None:
        """Send a table of samples."""

    def flush(self) -> None:
        """Send what is kept back for sending more at once."""

    @property
    def where(self) -> str:
        """Where the run can be looked at, or how: an address or a command."""

    def close(self, *, finished: bool) -> None:
        """Send what is still under way. ``finished``: whether the run is complete."""
