"""Commands that look at a run and change nothing of it."""

from pathlib import Path
from typing import Annotated

import typer

from ...common.errors import AuditError
from ...common.files import path_of
from ..finding import find_live
from .options import RUNS, AnyRun, AsJson, LiveRun, RunsDir, path_argument, spread

app = typer.Typer()


@app.command()
@spread
def status(run: LiveRun, as_json: AsJson = False) -> None:
    """Show who waits for whom, and since when. Exit code 0: the run moves or is done; 8: it is stalled; 10: an
    alarm."""
    from ..looking import status as desk

    def find() -> tuple[str, Path]:
        url, found = find_live(run.said, run.redis_url, run.runs_dir)
        return url, found.folder

    raise typer.Exit(desk.tell(find, run.said, local=run.redis_url is None, as_json=as_json))


@app.command()
@spread
def audit(
    run: AnyRun,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="The run is still going, or was killed.")] = False,
) -> None:
    """Prove from the ledger alone: no group trained twice, none unaccounted for, the bound held.

    A ledger may be named in the run's place, by a path that ends in .jsonl.

    Exit code 6: something does not hold, or the run has not ended and --unfinished was not said.
    """
    from ..looking.standing import not_ended
    from ..proving import audit as desk

    said = run.said
    path = path_of(said) if said is not None and said.endswith(".jsonl") else run.find().folder / "ledger.jsonl"
    account = desk.audit(path, unfinished=True)
    if not account.ended:
        typer.echo(not_ended(path, f"step {account.version} of {account.steps}"))
    typer.echo(account.describe())
    if not account.ended and not unfinished:
        raise AuditError("the run has not ended, so what is live is accounted for by nobody; --unfinished allows that")


@app.command()
@spread
def samples(
    *,
    run: AnyRun,
    step: Annotated[int | None, typer.Option("--step", help="Groups of one training step.", min=0)] = None,
    verdict: Annotated[
        str | None,
        typer.Option("--verdict", help="Responses found correct, wrong, no_answer, timeout or scored."),
    ] = None,
    best: Annotated[int | None, typer.Option("--best", help="This many of the highest reward.", min=1)] = None,
    worst: Annotated[int | None, typer.Option("--worst", help="This many of the lowest reward.", min=1)] = None,
    last: Annotated[int | None, typer.Option("--last", help="This many of the newest groups.", min=1)] = None,
    full: Annotated[bool, typer.Option("--full", help="Show long texts whole, not cut in the middle.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on showing new ones until the run is complete.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read what was asked, answered and judged: a few groups every few steps. Without a filter, the two newest.

    They are drawn by the run's seed before anything is known of them (metrics.samples_every); refunded ones are among
    them.
    """
    from ..looking import samples as desk

    asked = desk.Asked(step=step, verdict=verdict, best=best, worst=worst, last=last)
    desk.show(run.find().folder, asked, desk.Shown(full, as_json), follow=follow)


@app.command()
@spread
def watch(
    *,
    run: LiveRun,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve at; whoever reaches it may read prompts and answers.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="TCP port; 0 takes one that is free.", min=0, max=65535)] = 8420,
    allow_control: Annotated[
        bool, typer.Option("--allow-control", help="Let the page turn the dial, for whoever has the printed address.")
    ] = False,
) -> None:
    """Serve a page of a run for a browser: live curves, who waits for whom, the dial's history, samples, dead letters.

    The run may be under way or finished. The page is read-only, and this machine alone reaches it, unless told
    otherwise. However many look at it, Redis and the run's folder are read once for all.
    """
    from ..watching.serve import Serving
    from ..watching.serve import watch as serve

    url, found = find_live(run.said, run.redis_url, run.runs_dir)
    serving = Serving(host=host, port=port, allow_control=allow_control)
    serve(url, found.folder, serving, local=run.redis_url is None)


@app.command()
@spread
def report(run: AnyRun) -> None:
    """Write report.html and report.png from the run's folder, finished or not."""
    from ..reporting.report import write_report

    typer.echo(str(write_report(run.find().folder)))


@app.command()
@spread
def track(
    run: AnyRun,
    to: Annotated[
        list[str] | None, typer.Option("--to", help="wandb, trackio or mlflow; several are given one by one.")
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", help="Project, or MLflow's experiment; metrics.project by default.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow a run that is at work on another machine, or will be resumed.")
    ] = False,
) -> None:
    """Send a run to W&B, trackio or MLflow: what is there, and then what comes until the run ends.

    It takes up where it stopped. A run with metrics.trackers does this by itself.
    """
    from ..tracking.keeping import track as desk

    desk(run.find().folder, to or [], project, wait=wait)


@app.command()
def runs(
    folder: Annotated[Path | None, path_argument("FOLDER", help="Folder of the runs; runs by default.")] = None,
    runs_dir: RunsDir = RUNS,
    as_json: AsJson = False,
) -> None:
    """List a folder's runs, the newest first: running, finished, stopped or crashed; step, reward, time, size."""
    from ..looking.runs import listed

    typer.echo(listed(folder or runs_dir, as_json=as_json))


@app.command()
def config() -> None:
    """List every configuration key: its kind of value, its bounds and choices, its default, and what it means."""
    from ...common.described import described

    for key in described():
        typer.echo(key.describe())
