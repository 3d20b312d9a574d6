"""Python as a tool: a program in a fenced block of the policy's turn runs in the code sandbox, and the observation is
what it prints."""

from __future__ import annotations

import re
import time
from functools import cache

from ....common.config.environment import PROGRAM_S
from ....common.environments import Step
from ....common.sandbox.errors import Garbled, OutOfMemory, Overrun, SandboxError
from ....common.sandbox.room import SandboxRoom
from ....common.sandbox.sandbox import Job, Limits, Sandbox, usable_memory
from ....common.sandbox.sandboxed.frames import ENDED, FAILED, PROGRAM, pack

CALL = r"```(?:python|py)\n(.*?)```"
"""A fenced block of Python."""
NOTHING = "(it printed nothing)"


class Python:
    """Runs the last program of a turn. A turn without one is the policy's last.

    Each program starts anew: nothing of an earlier turn is left. What it does wrong is its output; only the sandbox's
    own failure is an error.
    """

    def __init__(
        self, call: str = CALL, timeout_s: float = PROGRAM_S, memory_bytes: int = 1 << 30, most_characters: int = 4000
    ) -> None:
        """``call``: a regular expression for a program; its group is the source. ``timeout_s``: wall seconds of a
        program, less than ``environment.turn_s``. ``memory_bytes``: what its processes may hold. ``most_characters``:
        of its output that are told; more is cut in the middle."""
        self._call = re.compile(call, re.DOTALL)
        if self._call.groups != 1:
            raise ValueError(f"options.call = {call!r} has {self._call.groups} groups; one is right, the program")
        self._timeout_s, self._most = timeout_s, most_characters
        self._limits = Limits(memory_bytes=min(memory_bytes, usable_memory()))
        room().sandbox()  # one for the process; where there can be none, that is told before the first turn

    def reset(self) -> None:
        """Nothing is kept between turns."""

    def step(self, response: str) -> str | Step:
        """What the last program in ``response`` prints, and how it ended where it failed."""
        programs = self._call.findall(response)
        return self._cut(self._outcome(programs[-1])) if programs else Step(done=True)

    def _outcome(self, source: str) -> str:
        sandbox = room().sandbox()
        with sandbox.job(self._limits) as job:
            try:
                return self._ran(job, source)
            except Overrun:
                return f"error: it ran past {self._timeout_s:g} s"
            except OutOfMemory as error:
                return f"error: it used {error}"
            except (Garbled, ValueError, TypeError, LookupError) as error:
                _refuse_lost(sandbox, error)
                return "error: its process died"

    def _ran(self, job: Job, source: str) -> str:
        deadline = time.monotonic() + self._timeout_s
        job.send(pack(PROGRAM, {"source": source}, b""), deadline=deadline)
        kind, ending, output = job.receive(deadline)
        if kind == FAILED:
            raise SandboxError(f"a program could not be started: {ending}")
        if kind != ENDED:
            raise Garbled("no report")
        job.saw(int(ending["peak_bytes"]))
        said = output.decode("utf-8", "replace")
        if (status := int(ending["status"])) != 0:
            how = f"exit code {status}" if status > 0 else f"signal {-status}"
            said += str(ending["complaint"]).strip() or f"error: it ended with {how}"
        return said.strip() or NOTHING

    def _cut(self, said: str) -> str:
        if len(said) <= self._most:
            return said
        half = self._most // 2
        return f"{said[:half]}\n… {len(said) - 2 * half} characters left out …\n{said[-half:]}"


def _refuse_lost(sandbox: Sandbox, error: Exception) -> None:
    if sandbox.lost(error):
        raise SandboxError("the sandbox was lost") from error


@cache
def room() -> SandboxRoom:
    """The sandbox of this process, for all its responses in turn. It ends with the process."""
    return SandboxRoom(isolated=True)
