"""Weights & Biases. Where it sends to, and whether it sends at all, is its own affair: WANDB_MODE, WANDB_ENTITY and the
others are as its pages say. What it keeps on this machine is in the run's folder, under ``wandb/``."""

import secrets
from pathlib import Path

import wandb

from ...common.errors import ConfigError
from .news import COLUMNS, Samples, Step, Turn
from .tracker import About

TITLE = 63
"""Most characters of an alert's title."""


class ToWandb:
    """A run of W&B. Its own step counts rows, because it may not go back at a rollback; the axis of the charts is the
    metric ``step``."""

    def __init__(self, about: About, id: str) -> None:
        """Open it. ``ConfigError`` where W&B has no key for its server."""
        self.id = id or secrets.token_hex(4)
        # The process follows the run; its own console, code and use of the machine say nothing of the run.
        settings = wandb.Settings(
            console="off", disable_code=True, disable_git=True, silent=True, x_disable_stats=True, x_disable_meta=True
        )
        try:
            self._run = wandb.init(
                project=about.project, id=self.id, name=about.run, dir=str(about.folder), resume="allow",
                settings=settings,
            )  # fmt: skip
        except wandb.errors.UsageError as error:
            offline = "log in with `wandb login`, or keep the run on this machine with WANDB_MODE=offline"
            raise ConfigError(f"W&B cannot be used: {error}; {offline}") from error
        self._run.config.update(about.config, allow_val_change=True)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def step(self, step: Step, row: int) -> None:
        """A row of the history, at the time at which the step ended."""
        self._run.log({"step": step.step, "_timestamp": step.at} | step.numbers | step.words, step=row)

    def turn(self, turn: Turn) -> None:
        """An alert: W&B has no notes beside curves that a program can write."""
        self._run.alert(f"step {turn.step}: {turn.title}"[:TITLE], turn.text, wait_duration=0)

    def samples(self, samples: Samples, row: int) -> None:
        """A table."""
        table = wandb.Table(columns=list(COLUMNS), data=samples.rows)
        self._run.log({"step": samples.step, "samples": table}, step=row)

    def flush(self) -> None:
        """Nothing is kept back."""

    @property
    def where(self) -> str:
        """The run's page; for a run that is kept on this machine, the command that sends it."""
        return self._run.url or f"wandb sync {Path(self._run.dir).parent}"

    def close(self, *, finished: bool) -> None:
        """A run that goes on later is ended too: it is taken up again by its id."""
        self._run.finish()
