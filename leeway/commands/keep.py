"""Commands that steer a run and clean up after it: live controls, dead letters, and what a run has in Redis."""

from pathlib import Path
from typing import Annotated

import typer

from ...common.limits import MOST_TRACED
from ..finding import find_live
from .become import go_on_as, words_of
from .options import RUNS, AnyRun, LiveRun, NamedRun, RunsDir, RunsRedisUrl, path_option, spread

app = typer.Typer()
letters_app = typer.Typer(no_args_is_help=True, help="What could not be used, and why; and asking for it again.")
app.add_typer(letters_app, name="dead-letters")


@app.command("set", context_settings={"ignore_unknown_options": True})  # -1 is a value, and refused as one
@spread
def set_control(
    name: Annotated[
        str, typer.Argument(help="max-staleness, overflow, pipeline-depth, target-entropy or learning-rate.")
    ],
    value: Annotated[str, typer.Argument(help="The new value.")],
    run: LiveRun,
) -> None:
    """Turn a live control of a run that is at work, and have the ledger note it.

    What says how to train (target-entropy, learning-rate) holds from the next training step on, the rest from the next
    ticket on.
    """
    from ...common.controls import key_of, read_control
    from ..running import controls

    read_control(key_of(name), value)  # before a run is looked for
    controls.turn(*run.live(), name, value)


@app.command()
@spread
def pause(run: LiveRun) -> None:
    """Issue no further tickets; what is live goes on."""
    from ..running import controls

    controls.turn(*run.live(), "paused", "1")


@app.command()
@spread
def resume(run: LiveRun) -> None:
    """Issue tickets again after a pause."""
    from ..running import controls

    controls.turn(*run.live(), "paused", "0")


@app.command()
@spread
def profile(
    run: LiveRun,
    steps: Annotated[int, typer.Option("--steps", help="Whole training steps to trace.", min=1, max=MOST_TRACED)] = 2,
    timeout_s: Annotated[
        int, typer.Option("--timeout", help="Seconds to wait for them.", metavar="SECONDS", min=1, max=10**6)
    ] = 3600,
) -> None:
    """Have the learner's first rank trace its next training steps with torch's profiler; the run goes on meanwhile.

    Into the run's folder go a trace for ui.perfetto.dev or chrome://tracing, and a table of the operators that took the
    most time. Exit code 11: nobody trains, or it took too long.
    """
    from ..running.profile import profile as ask

    url, found = find_live(run.said, run.redis_url, run.runs_dir)
    ask(url, found.folder, steps=steps, timeout_s=timeout_s, local=run.redis_url is None)


@letters_app.command("list")
@spread
def dead_letters_list(run: LiveRun) -> None:
    """List the dead letters, one a line: who gave up on which ticket, and why."""
    from ..looking import letters

    letters.show_all(*run.live())


@letters_app.command("show")
@spread
def dead_letters_show(
    letter: Annotated[str, typer.Argument(help="The letter's id, from the list.")],
    run: LiveRun,
) -> None:
    """Show everything that is known of one dead letter."""
    from ..looking import letters

    letters.show_one(*run.live(), letter)


@letters_app.command("retry")
def dead_letters_retry(
    letter: Annotated[list[str] | None, typer.Argument(help="Letters' ids, from the list.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every letter that is a group's.")] = False,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="The run, by id or path; the newest by default.")
    ] = None,
    redis_url: RunsRedisUrl = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Ask for the prompts of dead letters again, each under the next new ticket. The old tickets stay refunded."""
    from ..looking import letters

    url, found = find_live(run, redis_url, runs_dir)
    letters.retry(url, found.run, letter or [], every=every)


@app.command()
@spread
def clean(
    *,
    run: NamedRun,
    force: Annotated[bool, typer.Option("--force", help="Do so even while workers are alive.")] = False,
    redis_url: RunsRedisUrl = None,
) -> None:
    """Remove what a run has in Redis, and nothing else there, and what it has left of its weights in this machine's
    shared memory; its folder stays. Exit code 5: the run is alive."""
    from ..running.clean import clean as remove

    # What a run has left in Redis can be removed when its folder and its configuration are gone.
    url, found = find_live(run.name, redis_url, run.runs_dir, must_be_known=False)
    remove(url, found.run, force=force)


@app.command()
@spread
def copy(
    run: AnyRun,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="The place; the run's checkpoints.copy_to by default.")
    ] = None,
) -> None:
    """Copy a run's newest checkpoint, and what a resume needs beside it, to another place: S3, GCS, a folder, ….

    A run with checkpoints.copy_to does this by itself. The copy is whole and read back, or it does not count.
    """
    go_on_as("learner.copying", str(run.find().folder), *words_of(to=to))


@app.command()
def pull(
    url: Annotated[str, typer.Argument(metavar="URL", help="The place, and the run's id: s3://bucket/folder/RUN.")],
    step: Annotated[
        int | None, typer.Option("--step", help="Training steps made; the latest copy by default.", min=0)
    ] = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Bring a run here from its copies at another place, to go on with it: leeway up --run RUN --resume.

    Every byte is checked. A copy with a missing or damaged file is refused, and the one before it is named.
    """
    from ..running.elsewhere import pull as bring

    typer.echo(bring(url, runs_dir, step=step))


@app.command()
def acl(
    run: Annotated[str | None, typer.Option("--run", help="Users of this run alone; of every run by default.")] = None,
    passwords: Annotated[
        Path | None,
        path_option("--passwords", help="File of USER PASSWORD lines; made at random where there is none."),
    ] = None,
) -> None:
    """Print Redis users with the least rights that each role needs, for the server's ACL file.

    Without --run the file is whole and turns the default user off; with it the lines are to be added to one.
    """
    from ..running.acl import acl as lines

    typer.echo(lines(run, passwords))
