"""``leeway status``: shows who waits for whom, and since when, on one screen and in one sentence."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ...common import tables
from ...common.config import parse
from ...common.diagnosis import Snapshot, diagnose, look
from ...common.errors import BrokerError, LeewayError, NoRunError
from ...common.locks import holder
from ...common.queue.connection import Connection, RedisError, why_lost
from ...common.queue.desk import DeskQueue
from ...common.queue.entries import whole
from ...common.step_line import hardware_line, read_hardware, step_line
from ...common.texts import visible
from ...common.types import Heartbeat
from ...common.weights.node import standing
from ...common.wording import age, byte_size, counted, words
from .left import is_finished, last_state
from .status_json import Situation, of_folder, of_look

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

STALLED, ALARM = 8, 10  # exit codes
ANSWER_S = 3.0  # how long Redis may take to answer: a frozen one is an answer too


def render(now: Snapshot, last_step: dict[str, Any] | None = None) -> Group:
    """The screen: the sentence, the queues, the workers, the last training step."""
    from rich.console import Group
    from rich.text import Text

    found = diagnose(now)
    step, steps = now.state.get("step", "-"), now.state.get("steps", "?")
    version, stages = now.state.get("version", "-"), whole(now.state.get("stages", "1"))
    stage = f"   stage {whole(now.state.get('stage', '0')) + 1} of {stages}" if stages > 1 else ""
    head = Text(f"run {now.run}   step {step} of {steps}{stage}   version {version}", style="bold")
    auto = " (auto)" if now.state.get("asked_bound") == "auto" else ""
    flow = Text(
        f"prompts {now.queued['prompts']} ▶ responses {now.queued['responses']} ▶ scored {now.queued['scored']}"
        f"   live {now.state.get('live', '-')} (ready {now.state.get('ready', '-')})"
        f"   max_staleness {now.state.get('max_staleness', '-')}{auto}   depth {now.state.get('pipeline_depth', '-')}"
        f"   dead letters {now.queued['dead_letters']}"
    )
    heads = ("role", "worker", "version", "done", "tokens/s", "busy", "doing", "for")
    workers = sorted(now.workers, key=lambda worker: (worker.role, worker.worker))
    table = tables.table(heads, (_row(worker, now.at) for worker in workers), right={2, 3, 4, 5, 7})
    for member, due in now.lost.items():
        role, _, name = member.partition("/")
        table.add_row(role, name, "", "", "", "", "lost", age(now.at - due), style="red")
    parts: list[RenderableType] = [head, flow, table]
    if forked := now.state.get("forked_from"):
        parts.insert(1, Text(f"forked from {visible(forked)}"))
    if last_step is not None:
        parts.append(Text(step_line(last_step, steps)))
    if hardware := hardware_line(read_hardware(now.state.get("hardware", ""))):
        parts.append(Text(hardware))
    if sources := now.state.get("sources"):
        parts.append(Text(visible(sources)))
    parts += [Text(f"alarm: {alarm}", style="bold red") for alarm in found.alarms]
    parts.append(Text(found.sentence, style="bold red" if found.stalled else "green"))
    return Group(*parts)


def tell(find: Callable[[], tuple[str, Path]], run: str | None, *, local: bool, as_json: bool) -> int:
    """Print how a run stands, and return the exit code a monitor can use.

    ``find`` returns the address of the run's Redis, and its folder, which need not exist; ``run`` is what was asked
    for. ``local`` says that the address was not given but noted in the folder. Errors are raised, or with ``as_json``
    printed.
    """
    try:
        url, folder = find()
        run = folder.name
        if local and is_finished(folder):  # its embedded server has left too
            return _say(finished(folder), as_json=as_json)
        try:
            return show(url, run, as_json=as_json)
        except NoRunError:
            raise
        except BrokerError as error:
            if not local:
                raise
            return _say(without_server(folder, error), as_json=as_json)
    except (LeewayError, RedisError) as error:
        if not as_json:
            raise
        if isinstance(error, RedisError):
            error = BrokerError(why_lost(error))
        print(json.dumps(unknown(run, error), indent=2))
        return error.exit_code


def finished(folder: Path) -> dict[str, Any]:
    """The object of ``leeway status --json`` for a run that is finished, whose own server has left."""
    sentence = f"run {folder.name} is finished; its report is {folder / 'report.html'}"
    return of_folder(folder.name, Situation.FINISHED, sentence, last_state(folder), stalled=False)


def unknown(run: str | None, error: LeewayError) -> dict[str, Any]:
    """The object of ``leeway status --json`` where nothing can be told but the error."""
    no_server = isinstance(error, BrokerError) and not isinstance(error, NoRunError)
    situation = Situation.NO_SERVER if no_server else Situation.NO_RUN
    return of_folder(run, situation, str(error), {}, stalled=no_server)


def without_server(folder: Path, error: BrokerError) -> dict[str, Any]:
    """The object of ``leeway status --json`` for a run that brings its own server, where the server does not answer:
    nobody works on the run any more. Raises ``BrokerError`` where it is at work on another machine, and ``error`` where
    it is at work here or has no server of its own."""
    if not (folder / "redis").is_dir():
        raise error
    at_work = holder(folder / "lock")
    if at_work is not None and at_work[1] != socket.gethostname():
        raise BrokerError(
            f"run {folder.name} is at work on {at_work[1]}, and its server answers only there: ask there"
        ) from error
    if at_work is not None:
        raise error
    state = last_state(folder)
    of_steps = f" of {state['steps']}" if "steps" in state else ""
    sentence = (
        f"nobody works on run {folder.name} and its server has left: it stands at step {state['step']}"
        f"{of_steps}; leeway up --run {folder.name} --resume goes on"
    )
    return of_folder(folder.name, Situation.STOPPED, sentence, state, stalled=True)


def refuse_without_server(folder: Path, url: str) -> None:
    """``BrokerError`` where the run in ``folder`` brings its own server, and this has left with it."""
    if not (folder / "redis").is_dir():
        return
    try:
        Connection(url, folder.name, retry_s=0.0).close()
    except BrokerError as error:
        if is_finished(folder):
            raise BrokerError(f"run {folder.name} is finished, and its server has left") from None
        raise BrokerError(without_server(folder, error)["sentence"]) from None


def _say(told: dict[str, Any], *, as_json: bool) -> int:
    typer.echo(json.dumps(told, indent=2) if as_json else told["sentence"])
    return STALLED if told["stalled"] else 0


def show(redis_url: str, run: str, *, as_json: bool) -> int:
    """Print how a run stands now, and return the exit code a monitor can use."""
    queue = DeskQueue(Connection(redis_url, run, connect_s=ANSWER_S, retry_s=0.0))
    stored, folder = queue.load_config(), None
    with suppress(LeewayError):  # another build's configuration says nothing of that
        folder = parse(stored, f"configuration of {run}").weights.node
    now = look(queue)
    queue.close()
    found, node = diagnose(now), standing(redis_url, run, folder)
    if as_json:
        print(json.dumps(of_look(now, found) | {"node": None if node is None else asdict(node)}, indent=2))
    else:
        tables.show(render(now))
        if node is not None:
            typer.echo(
                f"weights on this machine: {node.path}, version {node.version}, {byte_size(node.bytes)}, "
                f"{counted(node.workers, 'rollout worker')}"
            )
    return STALLED if found.stalled else ALARM if found.alarms else 0


def _row(worker: Heartbeat, at: float) -> tuple[str, ...]:
    lived = max(at - worker.started, 1e-3)
    return (
        worker.role,
        worker.worker,
        str(worker.version) if worker.version >= 0 else "-",
        str(worker.done),
        f"{worker.tokens / lived:,.0f}" if worker.tokens else "-",
        f"{min(worker.busy_s / lived, 1.0):.0%}",
        words(worker.doing),
        age(at - worker.since),
    )
