"""``leeway up``: a whole run on this machine, every role its own supervised process."""

import sys
import time
from contextlib import ExitStack, closing, nullcontext, suppress
from pathlib import Path
from typing import Any

import typer

from ...common import address
from ...common.alarms import Teller
from ...common.config import Config, compose, config_in, dump
from ...common.diagnosis import diagnose, look
from ...common.errors import BrokerError, ConfigError, DataError, RunExistsError
from ...common.files import write_whole
from ...common.keys import Keys
from ...common.ledger import is_complete, last, refuse_other_format
from ...common.locks import only_writer
from ...common.progress import Progress
from ...common.queue.connection import Connection, RedisError, is_silent, why_lost
from ...common.queue.desk import DeskQueue
from ...common.step_line import step_line
from ...common.weights import node_folder
from ..looking import status
from . import launcher
from .dry_run import DryRun, show
from .elsewhere import refuse_copied
from .own_code import with_digests
from .preflight import preflight
from .server import EmbeddedServer
from .supervise import SLACK_S, Role, ended, mend, supervised

EYE_S = 2.0
"""Seconds that Redis may take to answer the supervisor."""
LAYOUT = (
    "train.ranks",
    "train.zero_stage",
    "rollout.workers",
    "rollout.tensor_parallel",
    "verifier.rewards_digest",
    "environment.digest",
    "objective.loss_digest",
    "train.hours",
    "checkpoints.copy_to",
    "checkpoints.verify",
)
"""Keys whose values may change when a run goes on, beside those of ``placement``. Where it has to be, the checkpoint is
converted."""
COMPLETE = "is complete: there is nothing to go on with"
STOPPING = "the learner finishes its step and writes a checkpoint"


def up(
    run: str | None,
    presets: list[str],
    settings: list[str],
    redis_url: str | None,
    runs_dir: Path,
    *,
    resume: bool,
    report: bool = True,
    dry: DryRun | None = None,
) -> None:
    """Run everything to the end, show it, and write its ``report``. ``dry``: only tell what would be run."""
    if resume:
        run = _to_go_on_with(run, presets, settings)
        config = _stored(runs_dir / run, settings)
        if (why := nothing_left(runs_dir / run, config)) is not None:
            typer.echo(f"run {run!r} {why}")
            return
        config = with_digests(config)  # other code than the run's is told before anything starts
    else:
        if not presets:
            raise ConfigError("name a --preset, for instance --preset tiny")
        config = with_digests(compose(presets, settings))
        run = run if run is not None else named_after(presets[-1])
    Keys(run)  # refuses an unusable id before anything is written
    folder = runs_dir / run
    if folder.exists() and not resume and dry is None:
        raise RunExistsError(f"run {run!r} exists ({folder}); choose another --run, or go on with --resume")
    if dry is not None:
        show(config, dry)
        return
    places = launcher.seats(config)
    preflight(config, dry_run=False)
    if not resume:
        refuse_copied(config, run)
    with ExitStack() as stack:
        leaving_s = config.broker.drain_s + SLACK_S  # for what a killed command has started
        alone = only_writer(folder / "lock", f"run {run!r}", error=RunExistsError, leaving_s=leaving_s)
        lock = stack.enter_context(alone)
        (folder / "logs").mkdir(exist_ok=True)
        write_whole(folder / "config.toml", dump(config))
        if redis_url is None:
            redis_url = stack.enter_context(EmbeddedServer(folder / "redis", lock=lock)).url
        address.keep(redis_url, folder / "redis-url")
        queue = stack.enter_context(closing(DeskQueue(Connection(redis_url, run))))
        stack.callback(node_folder.sweep, config.weights.node)  # what killed workers leave of their copy of the weights
        if queue.has_run() and not resume:
            raise RunExistsError(f"run {run!r} is already in this Redis; choose another --run")
        queue.record.store_config(dump(config))
        queue.record.set_state(phase="starting", at=queue.now(), **({} if resume else {"step": 0}))
        roles = launcher.roles(config, run, runs_dir, places)
        with supervised(roles, redis_url, leaving_s, STOPPING, lock=lock):
            watch(redis_url, run, roles, folder, config)
    if report:
        _report(run, folder, config)


def _to_go_on_with(run: str | None, presets: list[str], settings: list[str]) -> str:
    """``run``; ``ConfigError`` where none is named, or where more is asked for than a run that goes on can take."""
    keys = {text: text.partition("=")[0].strip() for text in settings}
    others = [text for text, key in keys.items() if key not in LAYOUT and not key.startswith("placement.")]
    if run is None or presets or others:
        raise ConfigError(
            f"--resume takes --run, and --set of {', '.join(LAYOUT)} and placement.*: else the run's own "
            "configuration goes on"
        )
    return run


def _report(run: str, folder: Path, config: Config) -> None:
    """Write the report of a run that has ended, and say so where it has not come to its last step."""
    from ..reporting.report import write_report

    if (why := nothing_left(folder, config)) != COMPLETE:
        typer.echo(f"run {run!r} {why}")
    typer.echo(f"report: {write_report(folder)}")


def nothing_left(folder: Path, config: Config) -> str | None:
    """Why there is nothing to go on with in the run in ``folder`` under ``config``; None where there is something."""
    if not is_complete(folder):
        return None
    end = last(folder / "ledger.jsonl") or {}
    if "hours" not in end:
        return COMPLETE
    if config.train.hours is None or config.train.hours > end["hours"]:
        return None
    return (
        f"has spent its train.hours = {config.train.hours:g} at step {end['version']} of {config.train.steps}: leeway "
        f"up --run {folder.name} --resume --set train.hours=… with more of them goes on"
    )


def create(run: str, presets: list[str], settings: list[str], redis_url: str, *, same_is_fine: bool = False) -> None:
    """Store a run's configuration in Redis. ``RunExistsError`` where another one is stored there."""
    text = dump(with_digests(compose(presets, settings)))
    with closing(DeskQueue(Connection(redis_url, run))) as queue:
        if not queue.has_run():
            queue.record.store_config(text)
        elif not (same_is_fine and queue.load_config() == text):
            raise RunExistsError(
                f"run {run!r} is already in this Redis with its own configuration; choose another --run"
            )


def named_after(preset: str) -> str:
    """A run's id: its last preset's name, which may have dots, and the time."""
    return f"{Path(preset).name.removesuffix('.toml')}-{time.strftime('%m%d-%H%M%S')}"


def _stored(folder: Path, settings: list[str]) -> Config:
    path = folder / "config.toml"
    if not path.exists():
        raise DataError(f"{path}: no such run; runs are under --runs-dir, and leeway pull brings one from its copies")
    refuse_other_format(folder)
    return compose([str(path)], settings) if settings else config_in(path)


def watch(redis_url: str, run: str, roles: list[Role], folder: Path, config: Config) -> None:
    """Show the run until it is complete, and start again what dies."""
    view = _Screen(config.train.steps) if sys.stdout.isatty() else Lines()
    # This connection answers at once or not at all: while Redis is away, roles that die must be started again.
    queue = DeskQueue(Connection(redis_url, run, connect_s=EYE_S, retry_s=0.0))
    seen_at, teller = time.monotonic(), Teller(stall_s=config.broker.stall_s)
    with view.open, closing(queue), closing(Progress(folder)) as progress:
        while True:
            code = ended(roles[0])
            if code == 0 and is_complete(folder):
                break
            for role in roles:
                mend(role, queue, progress.look())
            try:
                now = look(queue)
                for line in teller.look(now):  # in a terminal they stay above the live view
                    typer.echo(line.text)
                view.show(now, progress.newest)
                seen_at = time.monotonic()
            except RedisError as error:
                if is_silent(error):  # the server is frozen, or slow on a busy machine: the roles wait too
                    seen_at = time.monotonic()
                elif time.monotonic() - seen_at > config.broker.retry_s:
                    raise BrokerError(why_lost(error)) from error
            time.sleep(0.5)
        with suppress(RedisError):  # the run is complete, whatever Redis does
            progress.look()
            view.show(look(queue), progress.newest)


class _Screen:
    """The live view of a terminal: a progress bar over the status screen."""

    def __init__(self, steps: int) -> None:
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn()
        )
        self._bar = self._progress.add_task("steps", total=steps)
        self.open = Live(refresh_per_second=4)

    def show(self, now: status.Snapshot, last: dict[str, Any] | None) -> None:
        """Draw one look, and the last training step."""
        from rich.console import Group

        self._progress.update(self._bar, completed=0 if last is None else last["version"])
        self.open.update(Group(self._progress, status.render(now, last)))


class Lines:
    """The view for a pipe or a log: one line every few training steps, and one whenever nothing has moved for long."""

    EVERY_S = 5.0
    QUIET_S = 30.0
    open = nullcontext()

    def __init__(self) -> None:
        self._shown, self._at, self._spoke = -1, 0.0, time.monotonic()

    def show(self, now: status.Snapshot, last: dict[str, Any] | None) -> None:
        """Print what is new in a look and in the last training step."""
        at = time.monotonic()
        finished = now.state.get("phase") == "finished"
        if last is not None and last["step"] != self._shown and (at - self._at >= self.EVERY_S or finished):
            if last["step"] < self._shown:
                again = f"{last['step'] + 1} to {self._shown + 1}"
                typer.echo(f"the learner has gone on from its checkpoint: steps {again} are made again")
            self._shown, self._at, self._spoke = int(last["step"]), at, at
            typer.echo(step_line(last, now.state.get("steps", "?")))
        elif at - self._spoke >= self.QUIET_S:
            self._spoke = at
            typer.echo(diagnose(now).sentence)
