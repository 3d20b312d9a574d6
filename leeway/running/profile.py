"""``leeway profile``: asks the learner of a run to trace its next training steps, and waits for the trace."""

import time
from pathlib import Path

import typer

from ...common.activity import from_json as doing_of
from ...common.errors import BrokerError, NoProfileError, NoRunError
from ...common.profiles import FIELD, Answer, Request, from_json
from ...common.queue.connection import Connection, RedisError
from ...common.queue.desk import DeskQueue
from ...common.wording import words
from ..looking.left import is_finished

POLL_S = 0.5
TELL_S = 30.0
"""The progress is told when it changes, and again after so many seconds."""


def profile(redis_url: str, folder: Path, *, steps: int, timeout_s: int, local: bool) -> None:
    """Ask for a trace of the next ``steps`` training steps of the run in ``folder``, which need not exist here; wait
    for at most ``timeout_s`` seconds, and print where the trace is. ``local`` says that the address of Redis was not
    given, but noted in the folder. ``NoProfileError`` where there will be no trace."""
    run = folder.name
    if local and is_finished(folder):  # its embedded server has left too
        raise _finished(run)
    try:
        queue = DeskQueue(Connection(redis_url, run, connect_s=5.0, retry_s=0.0))
    except NoRunError:
        raise
    except BrokerError as error:
        if not local or not (folder / "redis").is_dir():
            raise
        raise NoProfileError(f"nobody works on run {run} any more, and its server has left: {error}") from None
    try:
        answer = _asked(queue, steps, timeout_s)
    except RedisError:
        if local and is_finished(folder):
            raise NoProfileError(
                f"run {run} has finished meanwhile, and its server has left; what was traced is in {folder / 'profile'}"
            ) from None
        raise
    finally:
        queue.close()
    first = answer.step or 0
    which = f"step {first} is" if answer.steps == 1 else f"steps {first} to {first + answer.steps - 1} are"
    fewer = f" ({steps} were asked for, and the run has ended)" if answer.steps < steps else ""
    typer.echo(f"{run}: {which} traced{fewer}; open it with ui.perfetto.dev or chrome://tracing")
    typer.echo(f"trace: {answer.path}\noperators: {answer.table}")


def _asked(queue: DeskQueue, steps: int, timeout_s: int) -> Answer:
    """Ask, and wait for the trace. A request that nobody waits for any more is withdrawn."""
    queue.load_config()  # an unknown run is the user's error, not a new hash
    if queue.state().get("phase") == "finished":
        raise _finished(queue.run)
    if not _learner_lives(queue):
        raise NoProfileError(f"run {queue.run} has no learner that could trace a step: start it, and ask again")
    request = Request.new(steps, queue.now() + timeout_s)
    queue.ask_profile(request)
    try:
        return _wait(queue, request, timeout_s)
    except RedisError:
        raise  # it cannot be withdrawn; the learner looks at the time
    except BaseException:  # Ctrl-C too
        queue.withdraw_profile(request)
        raise


def _wait(queue: DeskQueue, request: Request, timeout_s: int) -> Answer:
    """Wait for the answer to ``request`` that says that it is done."""
    deadline, told, told_at = time.monotonic() + timeout_s, "", 0.0
    while True:
        # In this order: the learner answers before it takes a request out of Redis, and before it leaves.
        waiting, lives = queue.asks_profile(request), _learner_lives(queue)
        state = queue.state()
        answer = _answer(state, request)
        if answer is not None and answer.phase == "done":
            return answer
        why = _why_not(state, answer, waiting=waiting, lives=lives)
        stands = _how_it_stands(state, answer)
        if why is None and time.monotonic() > deadline:
            why = f"no trace within {timeout_s} s; {stands}"
            why += "; the trace will still be written" if answer is not None else ""
        if why is not None:
            raise NoProfileError(f"run {queue.run}: {why}")
        if stands != told or time.monotonic() - told_at > TELL_S:
            typer.echo(stands, err=True)
            told, told_at = stands, time.monotonic()
        time.sleep(POLL_S)


def _answer(state: dict[str, str], request: Request) -> Answer | None:
    """The learner's answer to ``request``, where it has taken it."""
    answer = from_json(state.get(FIELD, ""))
    return answer if answer is not None and answer.id == request.id else None


def _why_not(state: dict[str, str], answer: Answer | None, *, waiting: bool, lives: bool) -> str | None:
    """Why there will be no trace; None while there may be one. ``waiting``: whether the request has not been taken.
    ``lives``: whether the learner does. Pure."""
    if answer is not None and answer.phase == "failed":
        return answer.why or "the learner does not say why it has failed"
    if not lives and state.get("phase") in ("finished", "stopped"):
        return f"it has {state['phase']} before a training step could be traced"
    if not lives:
        return "its learner is gone; ask again when it is back"
    if answer is None and not waiting:
        return "the request is lost: the learner was started again, or somebody else has asked since; ask again"
    return None


def _how_it_stands(state: dict[str, str], answer: Answer | None) -> str:
    """What the learner does, in a line. Pure."""
    does = words(doing_of(state.get("doing", "")))
    stands = {"tracing": "tracing", "writing": "writing the trace"}.get(answer.phase if answer else "")
    return f"{stands or 'waiting for the next training step'}; the learner is {does}"


def _learner_lives(queue: DeskQueue) -> bool:
    """Whether the rank lives that speaks for the learner; others only follow it."""
    leader, (workers, _) = queue.state().get("leader"), queue.overview.workers()
    return any(worker.role == "learner" and leader in (None, worker.worker) for worker in workers)


def _finished(run: str) -> NoProfileError:
    return NoProfileError(f"run {run} is finished: it makes no training step any more that could be traced")
