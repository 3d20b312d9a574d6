"""Commands that start a run, or a part of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from ...common import address
from .become import become
from .options import NamedRun, Presets, RedisUrl, Settings, spread

app = typer.Typer()


@dataclass(frozen=True, kw_only=True)
class StartedRun(NamedRun):
    """A run that is started, or goes on."""

    word: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="The run: its id, or the path of its folder; preset and time by default."),
    ] = None


@app.command()
@spread
def up(
    *,
    run: StartedRun,
    preset: Presets = None,
    settings: Settings = None,
    redis_url: RedisUrl = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the configuration, its tokens, memory and processes.")
    ] = False,
) -> None:
    """Run everything on this machine: server, learner, rollout and verifier workers, with a live view."""
    from .. import up as desk

    server = address.resolve(redis_url) if redis_url else None  # none given: the run brings its own
    name, runs_dir = None, run.runs_dir
    if run.said is not None:
        found = run.find() if resume else run.place()
        name, runs_dir = found.run, found.runs_dir
    desk.up(name, preset or [], settings or [], server, runs_dir, resume=resume, dry_run=dry_run)


@app.command()
@spread
def create(run: NamedRun, preset: Presets = None, settings: Settings = None, redis_url: RedisUrl = None) -> None:
    """Store a run's configuration in Redis, for roles on cluster nodes to find."""
    from .. import up as desk

    desk.create(run.place().run, preset or [], settings or [], address.resolve(redis_url))


@app.command()
@spread
def rollout(run: NamedRun, redis_url: RedisUrl = None) -> None:
    """One rollout worker: takes prompts, generates responses. Start as many as you like, anywhere, at any time."""
    become("rollout", run.place().run, redis_url)


@app.command()
@spread
def verifier(run: NamedRun, redis_url: RedisUrl = None) -> None:
    """One verifier worker: takes responses, gives verdicts. Start as many as you like, anywhere, at any time."""
    become("verifier", run.place().run, redis_url)


@app.command()
@spread
def learner(run: NamedRun, redis_url: RedisUrl = None, preset: Presets = None, settings: Settings = None) -> None:
    """The learner: issues, trains, publishes, checkpoints; goes on from its newest checkpoint if there is one.

    With --preset it creates the run first. For several ranks: leeway create, then
    torchrun --nproc-per-node N -m -- leeway_rl.learner --run ID --redis-url URL.
    """
    name = run.place()
    if preset or settings:
        from .. import up as desk

        desk.create(name.run, preset or [], settings or [], address.resolve(redis_url), same_is_fine=True)
    become("learner", name.run, redis_url, "--runs-dir", str(name.runs_dir))
