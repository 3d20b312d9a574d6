"""Traces whole training steps of rank 0 with torch's profiler, when an operator asks for it (``leeway profile``).

The profiler watches the training loop's thread, and on a GPU every kernel of the process. It changes nothing of what
is computed. A trace is written by a thread of its own, because that takes longer than the steps, and the other ranks
would wait. While nobody asks, a step pays for one look at an empty queue.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ..common.files import write_whole
from ..common.profiles import FIELD, Answer, Phase, Request, to_json
from ..common.queue.connection import RedisError

log = logging.getLogger(__name__)

OPERATORS = 30
"""Rows of the table."""


class Profiler:
    """Traces one request after the other, and says in the run's state what has become of the newest."""

    def __init__(self, requests: "SimpleQueue[Request]", set_state: Callable[..., object], folder: Path) -> None:
        """Take up ``requests``, and write under ``folder``. ``set_state`` sets fields of the run's state."""
        self._requests, self._set_state, self._folder = requests, set_state, folder
        self._begun: tuple[Request, profile, int] | None = None
        """The request, its trace, and the first step that is in it."""
        self._traced = 0
        self._writing = threading.Thread()
        set_state(**{FIELD: ""})  # what an earlier learner said is void

    def begin(self, step: int) -> None:
        """Training step ``step`` begins: start to trace if somebody has asked for it."""
        if self._begun is not None or self._writing.is_alive():
            return
        try:
            request = self._requests.get_nowait()
        except Empty:
            return
        gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
        trace = profile(activities=[ProfilerActivity.CPU, *gpu])
        try:
            trace.start()
        except RuntimeError as error:  # of the run it is no more than a view
            self._say(request, "failed", why=f"torch's profiler does not start: {error}")
            return
        self._begun, self._traced = (request, trace, step), 0
        self._say(request, "tracing", step=step)

    def end(self) -> None:
        """A training step has ended, with all that belongs to it: write the trace if it was the last one asked for."""
        if self._begun is None:
            return
        self._traced += 1
        if self._traced == self._begun[0].steps:
            self._finish(*self._begun)

    def close(self) -> None:
        """The learner leaves: write what has been traced of whole steps, and answer who still waits."""
        try:
            if self._begun is not None:
                self._finish(*self._begun)
            while not self._requests.empty():
                self._say(self._requests.get(), "failed", why="the learner left before another training step began")
        except RedisError as error:
            log.warning("nobody is told of the profile: %s", error)
        if self._writing.ident is not None:
            self._writing.join()

    def _finish(self, request: Request, trace: profile, first: int) -> None:
        """Stop tracing, and have what was traced written."""
        self._begun, steps = None, self._traced
        trace.stop()
        if steps == 0:
            self._say(request, "failed", why="the learner left before the training step had ended")
            return
        self._say(request, "writing", step=first)
        self._writing = threading.Thread(target=self._write, args=(request, trace, first, steps), name="profile")
        self._writing.start()

    def _write(self, request: Request, trace: profile, first: int, steps: int) -> None:
        """Write the trace, whole or not at all, and the table beside it; then answer."""
        path = self._folder / f"step-{first:06d}.json.gz"
        growing, table = path.with_name(f".{path.name}"), path.with_name(f"step-{first:06d}.txt")
        by = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        try:
            self._folder.mkdir(exist_ok=True)
            trace.export_chrome_trace(str(growing))  # it compresses what ends in .gz
            growing.replace(path)
            write_whole(table, trace.key_averages().table(sort_by=by, row_limit=OPERATORS))
        except (OSError, RuntimeError) as error:
            log.error("the trace of step %d cannot be written: %s", first, error)
            with suppress(OSError):
                growing.unlink(missing_ok=True)
            answer: dict[str, Any] = {"phase": "failed", "why": f"the trace cannot be written: {path}: {error}"}
        else:
            log.info("steps %d to %d are traced: %s", first, first + steps - 1, path)
            told = {"path": str(path.resolve()), "table": str(table.resolve())}
            answer = {"phase": "done", "steps": steps, "step": first, **told}
        try:
            self._say(request, **answer)
        except RedisError as error:
            log.warning("nobody is told of the profile: %s", error)

    def _say(self, request: Request, phase: Phase, **about: Any) -> None:
        answer = Answer(**{"id": request.id, "phase": phase, "steps": request.steps, **about})
        self._set_state(**{FIELD: to_json(answer)})
