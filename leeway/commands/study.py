"""Commands that make runs in order to find something out: sweep, study, prove, chaos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .become import go_on_as, words_of
from .options import RUNS, NamedRun, Presets, RedisUrl, RunsDir, Settings, path_option, spread

app = typer.Typer()
prove_app = typer.Typer(no_args_is_help=True, help="Prove a promise by running it.")
app.add_typer(prove_app, name="prove")


@app.command()
def sweep(
    preset: Presets = None,
    settings: Settings = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", help="section.key=v1,v2,v3; give several for all their combinations."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of every setting, with flow.seed 0, 1, … (3)", min=1)] = None,
    out: Annotated[Path | None, path_option("--out", help="The sweep's folder; runs/sweep-PRESET by default.")] = None,
    redis_url: RedisUrl = None,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; write the report of what is finished.")
    ] = False,
) -> None:
    """Run every combination of some keys' values with several seeds, one after the other, and compare them.

    The same command again, or --out alone, goes on where it stopped. Exit code 7: points failed.
    """
    from ..sweeping import sweep as desk

    desk.sweep(preset or [], settings or [], grid or [], seeds, out, redis_url, report_only=report_only)


@app.command()
def study(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Studies, as --list has them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every study, and the table of all verdicts.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="Name the studies and what each asks.")] = False,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds, with commas; three or more give an interval. Each study's own by default."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps a run; 50 by default.", min=1)] = None,
    out: Annotated[Path, path_option("--out", help="Folder of the pages.")] = Path("docs/studies"),
    runs_dir: Annotated[Path, path_option("--runs-dir", help="Folder of the runs' CSV files.")] = Path("runs/studies"),
    jobs: Annotated[int | None, typer.Option(help="Runs side by side; a core each by default.", min=1)] = None,
) -> None:
    """The report's ablations at toy scale, and staleness: run, judge, write the pages. Goes on where it was stopped."""
    words = words_of(seeds=seeds, out=out, runs_dir=runs_dir, all=everything, list=listing, steps=steps, jobs=jobs)
    go_on_as("studies", *(names or []), *words)


@prove_app.command("on-policy")
def prove_on_policy(
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 5,
    rollout_workers: Annotated[int, typer.Option(help="Rollout workers.", min=1)] = 2,
    verifier_workers: Annotated[int, typer.Option(help="Verifier workers.", min=1)] = 2,
    preset: Presets = None,
    settings: Settings = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """At max_staleness 0 the asynchronous run ends with the weights of a plain loop in one process, bit for bit."""
    from ..proving.prove import on_policy

    on_policy(steps, rollout_workers, verifier_workers, preset or ["tiny"], settings or [], runs_dir)


@dataclass(frozen=True, kw_only=True)
class StruckRun(NamedRun):
    """A run that faults strike."""

    word: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run under leeway up on this machine; with --preset one to be started."),
    ] = None


@app.command()
@spread
def chaos(
    *,
    run: StruckRun,
    preset: Presets = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Decides the timetable and every choice.", min=0)] = 0,
    faults: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    every_s: Annotated[
        float, typer.Option("--every-s", help="Seconds from one to the next, on average.", min=0)
    ] = 10.0,
    per_step: Annotated[
        float, typer.Option("--per-step", help="Faults a training step at most: a slow run has them later.", min=0.01)
    ] = float("inf"),
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this kind of fault; may be repeated.")] = None,
) -> None:
    """Break things on purpose: kill and stop roles, Redis, connections, disk, messages, clock. Every fault is logged in
    the run's chaos.jsonl. A rehearsal: not for a run that you need."""
    from ..chaos.run import chaos as rehearse

    more = {"seed": seed, "count": faults, "every_s": every_s, "per_step": per_step}
    struck = run.place() if preset else run.find()
    rehearse(struck.run, struck.runs_dir, preset or [], settings or [], **more, only=only or [])  # type: ignore[arg-type]
