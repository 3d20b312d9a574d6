"""Commands of a run's keeper: its live controls, its dead letters, and what it has in Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..finding import found
from .options import RUNS, AnyRun, RedisUrl, RunsDir, path_option

app = typer.Typer()
letters_app = typer.Typer(no_args_is_help=True, help="What could not be used, and why; and asking for it again.")
app.add_typer(letters_app, name="dead-letters")


@app.command("set")
def set_control(
    name: Annotated[str, typer.Argument(help="max-staleness, overflow, pipeline-depth or target-entropy.")],
    value: Annotated[str, typer.Argument(help="The new value.")],
    run: AnyRun = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Turn a live control of a running run; it holds from the next admission and stands in the ledger."""
    from .. import controls

    controls.turn(*found(run, redis_url, runs_dir), name, value)


@app.command()
def pause(run: AnyRun = None, redis_url: RedisUrl = None, runs_dir: RunsDir = RUNS) -> None:
    """Issue no further tickets; what is live goes on."""
    from .. import controls

    controls.turn(*found(run, redis_url, runs_dir), "paused", "1")


@app.command()
def resume(run: AnyRun = None, redis_url: RedisUrl = None, runs_dir: RunsDir = RUNS) -> None:
    """Issue tickets again after a pause."""
    from .. import controls

    controls.turn(*found(run, redis_url, runs_dir), "paused", "0")


@letters_app.command("list")
def dead_letters_list(run: AnyRun = None, redis_url: RedisUrl = None, runs_dir: RunsDir = RUNS) -> None:
    """A line a dead letter: who gave up on which ticket, and why."""
    from .. import letters

    letters.show_all(*found(run, redis_url, runs_dir))


@letters_app.command("show")
def dead_letters_show(
    letter: Annotated[str, typer.Argument(help="The letter's id, from the list.")],
    run: AnyRun = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Everything that is known of one dead letter."""
    from .. import letters

    letters.show_one(*found(run, redis_url, runs_dir), letter)


@letters_app.command("retry")
def dead_letters_retry(
    letter: Annotated[list[str] | None, typer.Argument(help="Letters' ids, from the list.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every letter that is a group's.")] = False,
    run: AnyRun = None,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Ask for their prompts again, each under the next new ticket. The poisoned tickets themselves stay refunded."""
    from .. import letters

    letters.retry(*found(run, redis_url, runs_dir), letter or [], every=every)


@app.command()
def clean(
    run: Annotated[str, typer.Argument(help="The run's id.")],
    force: Annotated[bool, typer.Option("--force", help="Even while its workers are alive.")] = False,
    redis_url: RedisUrl = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Remove what a run has in Redis, and nothing else there; its folder stays. Exit code 5: the run is alive."""
    from ..clean import clean as remove

    remove(*found(run, redis_url, runs_dir), force=force)


@app.command()
def acl(
    run: Annotated[str | None, typer.Option("--run", help="Users of this run alone; of every run by default.")] = None,
    passwords: Annotated[
        Path | None,
        path_option("--passwords", help="USER PASSWORD lines; made with random ones where it is not there."),
    ] = None,
) -> None:
    """Print Redis users with the least rights that each role needs, for the server's ACL file.

    Without --run the file is whole and turns the default user off; with it the lines are to be added to one.
    """
    from ..acl import acl as lines

    typer.echo(lines(run, passwords))
