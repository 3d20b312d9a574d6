"""trackio, by Hugging Face: a database on this machine (TRACKIO_DIR says where), or a Space where TRACKIO_SPACE_ID
names one. ``trackio show`` shows it."""

import trackio

from .news import COLUMNS, Samples, Step, Turn
from .tracker import About


class ToTrackio:
    """A run of trackio."""

    def __init__(self, about: About, id: str) -> None:
        self.id = id or about.run
        self._run = trackio.init(
            project=about.project, name=self.id, config=about.config, resume="allow" if id else "never", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        self.id = self._run.name  # where there was a run of this name, trackio has chosen another

    def step(self, step: Step, row: int) -> None:
        """A row of measurements."""
        self._run.log(step.numbers | step.words, step=step.step)

    def turn(self, turn: Turn) -> None:
        """An alert at its step."""
        self._run.alert(turn.title, turn.text, trackio.AlertLevel.INFO, step=turn.step)

    def samples(self, samples: Samples, row: int) -> None:
        """A table."""
        table = trackio.Table(columns=list(COLUMNS), data=samples.rows)
        self._run.log({"samples": table}, step=samples.step)

    def flush(self) -> None:
        """A thread of trackio writes twice a second."""

    @property
    def where(self) -> str:
        """The command that shows it."""
        return f"trackio show --project {self._run.project}"

    def close(self, *, finished: bool) -> None:
        """Write what is still in memory."""
        self._run.finish()
