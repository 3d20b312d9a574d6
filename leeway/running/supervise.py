"""Supervised processes: each with its own log and share of the cores, started again when it dies, none left behind."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import typer

from ...common import address, exporter
from ...common.errors import AuditError, BrokerError, ConfigError, DataError, RoleDiedError, RunExistsError
from ...common.queue.connection import RedisError
from ...common.queue.desk import DeskQueue
from ...common.stopping import STOPPED
from . import last_words

SLACK_S = 10.0  # how much longer than broker.drain_s the roles have to leave after SIGTERM
QUICK_DEATHS, QUICK_S = 5, 300.0
"""A run is given up after so many deaths of a role in a row, each within so many seconds of its start and without
progress between. An engine that cannot start may take minutes to find out."""


DEATHS_BESIDE = 2
"""How many quick deaths in a row of a role beside the run are mended."""
_MISTAKES = {kind.exit_code: kind for kind in (ConfigError, DataError, RunExistsError, AuditError)}
"""By exit code, the errors of a user's mistakes, which a role names as it ends."""


@dataclass(slots=True)
class Role:
    """One supervised process."""

    name: str
    command: list[str]
    log: Path | None
    """The file that its output goes to; without one, the output goes to ours."""
    threads: int
    variables: dict[str, str] = field(default_factory=dict)
    """Of its environment, beside ours: which GPUs it has, for one. They are the same at every start."""
    redis_url: str = ""
    """Handed over in the environment, because everybody can read a command line."""
    metrics_port: int = 0
    essential: bool = True
    """Whether the run ends where it cannot be started again. One beside the run (a tracker) is given up."""
    given_up: bool = False
    """Whether it died too often and is not started any more; the run goes on without it."""
    held: tuple[int, ...] = ()
    """Descriptors of locks that the process holds too, until it has left."""
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    quick_deaths: int = 0
    progress_at_death: int = -1
    """The run's progress when the process last died."""
    log_start: int = 0
    """Bytes that were in its log when the process was last started."""
    memory_kills: int = 0
    """``memory_kills`` when the process was last started."""

    def start(self) -> None:
        """Start it with its own log and its own share of the cores."""
        environment = os.environ | {"OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
        if self.metrics_port:
            environment[exporter.VARIABLE] = str(self.metrics_port)
        environment |= self.variables | {"LEEWAY_SUPERVISOR": str(os.getpid()), address.VARIABLE: self.redis_url}
        self.memory_kills = last_words.memory_kills()
        with nullcontext() if self.log is None else self.log.open("ab") as output:
            self.log_start = 0 if output is None else output.tell()
            # It has its own session, so that Ctrl-C reaches only the supervisor, which then asks every role to leave.
            self.process = subprocess.Popen(
                self.command,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=self.held,
                start_new_session=True,
            )
        self.started = time.monotonic()

    def ask_to_leave(self) -> None:
        """Send SIGTERM, if the process is still there."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and to its process group."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def said(self) -> str:
        """The end of what the process has written since it was last started."""
        return "" if self.log is None else last_words.tail(self.log, self.log_start)


@contextmanager
def supervised(
    roles: list[Role], redis_url: str, stop_s: float, stopping: str, *, lock: IO[str], first: int | None = None
) -> Iterator[None]:
    """Start the roles, or only the ``first`` so many of them, and leave none behind whatever happens. SIGTERM and
    Ctrl-C are passed on as a request to stop, to the first role before the others, and ``stopping`` is printed. A
    second signal ends everything at once. Every role holds the ``lock`` too."""
    asked = False

    def ask_all(_signum: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            for role in roles:
                role.kill()
            return
        asked = True
        raise KeyboardInterrupt

    # SIGHUP is handled too: a closed terminal must not leave roles behind, which are in sessions of their own.
    previous = {number: signal.signal(number, ask_all) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        for role in roles:
            role.redis_url, role.held = redis_url, (lock.fileno(),)
        for role in roles[:first]:
            role.start()
        yield
    except KeyboardInterrupt:
        typer.echo(f"stopping: {stopping} (again to leave at once)", err=True)
        roles[0].ask_to_leave()
        _wait_for(roles[:1], stop_s)
        raise SystemExit(STOPPED) from None
    finally:
        asked = True  # from here on nothing may interrupt the shutdown
        for role in roles:
            role.ask_to_leave()
        _wait_for(roles, stop_s)
        for role in roles:
            if not (role.essential or role.given_up or role.process is None or ended(role) in (0, STOPPED)):
                typer.echo(f"{_why(role, role.process.returncode)[1]}", err=True)
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_for(roles: list[Role], stop_s: float) -> None:
    deadline = time.monotonic() + stop_s
    for role in roles:
        if role.process is None:
            continue
        try:
            role.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            role.kill()
            role.process.wait()


def ended(role: Role) -> int | None:
    """The exit code of a role that was started and has ended; None otherwise."""
    assert role.process is not None
    return role.process.poll()


def mend(role: Role, queue: DeskQueue, progress: int) -> None:
    """Start a role again that has ended although its run goes on. ``progress`` is what the run has done so far, by any
    measure. ``RoleDiedError`` where another start would not help, and ``BrokerError`` where that is for Redis."""
    if not role.essential:
        mend_beside(role)
        return
    code = ended(role)
    if code is None:
        return
    code, words = _why(role, code)
    if code in _MISTAKES:  # the same start would meet the same mistake
        raise _MISTAKES[code](words)
    if code in (0, STOPPED):  # the role was asked to leave, or has seen that the run is finished
        try:
            if queue.state().get("phase") == "finished":
                return
        except RedisError:
            return  # the next look will tell
    for_redis = code == BrokerError.exit_code  # then it has asked again for broker.retry_s, which is not quick
    quick = (for_redis or time.monotonic() - role.started < QUICK_S) and progress == role.progress_at_death
    role.quick_deaths, role.progress_at_death = role.quick_deaths + 1 if quick else 1, progress
    if role.quick_deaths > QUICK_DEATHS:
        raise (BrokerError if for_redis else RoleDiedError)(f"{role.quick_deaths} times in a row: {words}")
    typer.echo(f"{words}; it is started again", err=True)
    role.start()


def mend_beside(role: Role) -> None:
    """Start a role again that has died beside its run, and give it up after ``DEATHS_BESIDE`` quick deaths, or at once
    for a user's mistake. Both are said, the latter once. A role that has ended in order stays so."""
    code = ended(role)
    if code is None or role.given_up or code in (0, STOPPED):
        return
    code, words = _why(role, code)
    quick = time.monotonic() - role.started < QUICK_S
    role.quick_deaths = role.quick_deaths + 1 if quick else 1
    role.given_up = code in _MISTAKES or role.quick_deaths > DEATHS_BESIDE
    if role.given_up:
        typer.echo(f"{words}; the run goes on without it", err=True)
        return
    typer.echo(f"{words}; it is started again", err=True)
    role.start()


def _why(role: Role, code: int) -> tuple[int, str]:
    """(the exit code that counts, one line on why the role ended that names its log)."""
    said, where = role.said(), f" ({role.log})" if role.log is not None else ""
    if code in _MISTAKES and (mistake := last_words.named(said)):
        return code, f"{role.name}: {mistake}{where}"
    if code in (0, STOPPED):
        return code, f"{role.name} left, with code {code}{where}"
    out_of_memory = last_words.memory_kills() > role.memory_kills
    return code, f"{role.name} died: {last_words.cause(code, said, killed_for_memory=out_of_memory)}{where}"
