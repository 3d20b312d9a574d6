"""A calculator whose process dies in the middle of some of its turns, as the tests' own environment."""

import os
import signal

from leeway_rl.rollout.environments.shipped.calculator import Calculator


class Fragile(Calculator):
    """A calculator that kills its process at the turns whose numbers are in ``deaths``. They are counted over all
    processes, by the bytes of the file ``counted``."""

    def __init__(self, counted: str, deaths: list[int], error: str) -> None:
        super().__init__(error=error)
        self._counted, self._deaths = counted, deaths

    def step(self, response: str):
        """The calculator's answer, or death."""
        with open(self._counted, "ab", buffering=0) as file:  # at once, or two processes may count the same turn
            file.write(b".")
            turn = file.tell()
        if turn in self._deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(response)
