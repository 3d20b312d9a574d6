"""Commands that start a run, or a part of one."""

from __future__ import annotations

from typing import Annotated

import typer

from ...common import address
from .become import become
from .options import RUNS, Presets, RedisUrl, RunId, RunsDir, Settings

app = typer.Typer()


@app.command()
def up(
    run: Annotated[str | None, typer.Option("--run", help="The run's id; preset and time by default.")] = None,
    preset: Presets = None,
    settings: Settings = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = RUNS,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the configuration, its tokens, memory and processes.")
    ] = False,
) -> None:
    """Run everything on this machine: server, learner, rollout and verifier workers, with a live view."""
    from .. import up as desk

    server = address.resolve(redis_url) if redis_url else None  # none given: the run brings its own
    desk.up(run, preset or [], settings or [], server, runs_dir, resume=resume, dry_run=dry_run)


@app.command()
def create(run: RunId, preset: Presets = None, settings: Settings = None, redis_url: RedisUrl = None) -> None:
    """Store a run's configuration in Redis, for roles on cluster nodes to find."""
    from .. import up as desk

    desk.create(run, preset or [], settings or [], address.resolve(redis_url))


@app.command()
def rollout(run: RunId, redis_url: RedisUrl = None) -> None:
    """One rollout worker: takes prompts, generates responses. Start as many as you like, anywhere, at any time."""
    become("rollout", run, redis_url)


@app.command()
def verifier(run: RunId, redis_url: RedisUrl = None) -> None:
    """One verifier worker: takes responses, gives verdicts. Start as many as you like, anywhere, at any time."""
    become("verifier", run, redis_url)


@app.command()
def learner(
    run: RunId,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = RUNS,
    preset: Presets = None,
    settings: Settings = None,
) -> None:
    """The learner: issues, trains, publishes, checkpoints; goes on from its newest checkpoint if there is one.

    With --preset it creates the run first. For several ranks: leeway create, then
    torchrun --nproc-per-node N -m -- leeway_rl.learner --run ID --redis-url URL.
    """
    if preset or settings:
        from .. import up as desk

        desk.create(run, preset or [], settings or [], address.resolve(redis_url), same_is_fine=True)
    become("learner", run, redis_url, "--runs-dir", str(runs_dir))
