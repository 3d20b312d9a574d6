"""How far a run has come in trained groups and in optimizer updates: what runs with other batches or another number of
updates a step are compared over. No I/O."""

from typing import Any

import numpy as np

from ...common.config import Config


class Progress:
    """Counts since the run began. They are in the checkpoint, since what a step trained depends on the configuration
    that it was trained under."""

    def __init__(self, config: Config) -> None:
        trains = [view.train for view in config.views()]
        self._starts = np.array(config.stage_starts)
        self._groups = np.array([train.groups_per_step for train in trains])
        self._updates = np.array([train.updates_per_step for train in trains])
        self.groups, self.updates = 0, 0

    def trained(self, groups: int, stage: int) -> None:
        """A training step of ``stage`` has trained so many groups."""
        self.groups += groups
        self.updates += int(self._updates[stage])

    def updates_before(self, steps_N: np.ndarray) -> np.ndarray:
        """How many updates this configuration makes before each of these training steps. int64 [N]."""
        return self._before(steps_N, self._updates)

    def _before(self, steps_N: np.ndarray, each: np.ndarray) -> np.ndarray:
        ends = np.append(self._starts[1:], np.iinfo(np.int64).max)
        steps_NS = np.clip(np.asarray(steps_N, np.int64)[:, None], self._starts, ends) - self._starts
        before_N: np.ndarray = steps_NS @ each
        return before_N

    def state(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        return {"groups": self.groups, "updates": self.updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what the checkpoint's ``state`` says. An older Leeway did not count; its configuration tells."""
        if (counted := state.get("progress")) is not None:
            self.groups, self.updates = counted["groups"], counted["updates"]
            return
        version = np.array([state["version"]])
        self.groups, self.updates = (int(self._before(version, each)[0]) for each in (self._groups, self._updates))
