"""``leeway plan``: simulates a system before it is built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...common.limits import LONGEST_S, MOST_COUNTED, MOST_PROCESSES, MOST_RESPONSES
from ..finding import find
from .options import RUNS, AsJson, Presets, RunsDir, Settings, path_option, spread

MOST_SIMULATED = 1_000_000
"""Most groups that a simulation is to hold at a time."""

app = typer.Typer()


def _number(words: str, least: float, most: float | None) -> Any:
    """An option that is a number from ``least`` to ``most``."""
    return typer.Option(help=words, min=least, max=most)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """How long the responses are."""

    lengths: Annotated[
        Path | None, path_option("--lengths", help="Response lengths: a file with one a line, or a ledger.jsonl.")
    ] = None
    length_mean: Annotated[float | None, _number("Mean of lognormal lengths, tokens. (6000)", 1, MOST_COUNTED)] = None
    length_sigma: Annotated[float | None, _number("Their sigma. (0.6)", 0, 10)] = None
    length_max: Annotated[int | None, _number("The longest length, tokens. (16384)", 1, MOST_COUNTED)] = None
    group_size: Annotated[int | None, _number("G, responses a group. (16)", 1, MOST_RESPONSES)] = None


@dataclass(frozen=True, kw_only=True)
class System:
    """What the user says of the system to simulate. None means what --from has measured, or else the default."""

    groups_per_step: Annotated[int | None, _number("B. (256)", 1, MOST_SIMULATED)] = None
    steps: Annotated[int | None, _number("Training steps to simulate. (100)", 1, 10**6)] = None
    pipeline_depth: Annotated[str | None, typer.Option(help="auto, or groups live at most. (auto)")] = None
    replicas: Annotated[int | None, _number("Rollout workers. (32)", 1, MOST_PROCESSES)] = None
    concurrency: Annotated[int | None, _number("Groups a worker generates side by side. (8)", 1, MOST_SIMULATED)] = None
    alone: Annotated[float | None, _number("Tokens/s of one response alone in a worker. (50)", 1e-3, 1e9)] = None
    peak: Annotated[
        float | None, _number("Tokens/s of a worker under full load; inf: no limit. (2000)", 1e-3, None)
    ] = None
    in_flight: Annotated[
        bool | None, typer.Option("--in-flight/--whole", help="New weights in the middle of a response? (in flight)")
    ] = None
    turnaround_s: Annotated[
        float | None,
        _number("From the end of a group to the start of the next in its slot. (0)", 0, LONGEST_S),
    ] = None
    pause_s: Annotated[float | None, _number("A worker's pause at a new version. (0)", 0, LONGEST_S)] = None
    verify_s: Annotated[float | None, _number("Time to grade a group. (0)", 0, LONGEST_S)] = None
    graders: Annotated[int | None, _number("Groups graded side by side; 0: all. (0)", 0, MOST_SIMULATED)] = None
    train_s: Annotated[float | None, _number("A training step beside its tokens. (1)", 0, LONGEST_S)] = None
    train_tokens_per_s: Annotated[float | None, typer.Option(help="Tokens/s of the learner. (inf)", min=1)] = None
    publish_s: Annotated[float | None, _number("Time to publish a version. (0)", 0, LONGEST_S)] = None
    rejected: Annotated[float | None, typer.Option(help="Share of groups without a signal. (0)")] = None
    seed: Annotated[int | None, typer.Option(help="Seed of lengths and rejections. (0)", min=0)] = None

    def given(self) -> dict[str, Any]:
        """What the user said, by the names of ``simulate.System``."""
        from ..planning.plan import depth

        said = {name: value for name, value in vars(self).items() if value is not None}
        if self.pipeline_depth is not None:
            said["pipeline_depth"] = depth(self.pipeline_depth)
        if self.train_tokens_per_s is not None:
            said["train_s_per_token"] = 1 / said.pop("train_tokens_per_s")
        return said


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """Options for estimating a configuration's speed from its GPUs."""

    gpu_gb: Annotated[
        float, typer.Option("--gpu-gb", help="With --preset: memory of each GPU, in GB.", min=1, max=10**6)
    ] = 80
    mfu: Annotated[float, _number("With --preset: share of a GPU's operations that training makes.", 0.01, 1)] = 0.35
    bandwidth_use: Annotated[
        float, _number("With --preset: share of a GPU's bandwidth that decoding reaches.", 0.01, 1)
    ] = 0.6


@dataclass(frozen=True, kw_only=True)
class Gpus:
    """Options for finding a split of GPUs."""

    gpus: Annotated[int | None, typer.Option(help="Find the best split of so many GPUs.", min=2)] = None
    gpus_per_replica: Annotated[int, typer.Option(help="GPUs of a rollout worker.", min=1)] = 1
    learner_gpus: Annotated[int, typer.Option(help="GPUs for which the learner's times are stated.", min=1)] = 1


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Options for fitting a worker to rollout times."""

    fit: Annotated[
        str | None, typer.Option(help="GPUs:seconds, two or more with commas: rollout times to fit a worker to.")
    ] = None
    predict: Annotated[str, typer.Option(help="With --fit: numbers of GPUs, with commas.")] = ""
    responses: Annotated[int, typer.Option(help="With --fit: responses of a rollout.", min=1)] = 1024


@app.command()
@spread
def plan(
    *,
    run: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN", help="A run, by id or path: start from what was measured there."),
    ] = None,
    runs_dir: RunsDir = RUNS,
    preset: Presets = None,
    settings: Settings = None,
    assumed: Assumed,
    lengths: Lengths,
    system: System,
    max_staleness: Annotated[str, typer.Option(help="Bounds or auto, with commas: a row for each. (1)")] = "",
    overflow: Annotated[str, typer.Option(help="Policies, with commas: a row for each. (wait)")] = "",
    gpus: Gpus,
    fit: Fit,
    as_json: AsJson = False,
) -> None:
    """Simulate a system on a virtual clock: steps an hour, staleness, idle shares, waste, length bias, memory.

    Admission, the bound and pacing are the learner's own code. A worker with n responses takes 1/alone + (n-1)/peak
    seconds for a token of each. With --preset, the page of leeway up --dry-run comes first, and times are estimated
    from GPUs' data sheets. In parentheses: what holds where neither the option nor --from nor --preset says anything.
    """
    from ..planning import plan as desk

    drawn = desk.Drawn(lengths.length_mean, lengths.length_sigma, lengths.length_max)
    if fit.fit is not None:
        typer.echo(desk.fit(fit.fit, fit.predict, fit.responses, drawn, as_json=as_json))
        return
    text = desk.plan(
        run=None if run is None else find(run, runs_dir).folder,
        asked=desk.asked(preset or [], settings or [], assumed.gpu_gb, assumed.mfu, assumed.bandwidth_use, run),
        lengths=lengths.lengths,
        drawn=drawn,
        group_size=lengths.group_size,
        bounds=max_staleness,
        policies=overflow,
        gpus=None if gpus.gpus is None else (gpus.gpus, gpus.gpus_per_replica, gpus.learner_gpus),
        as_json=as_json,
        given=system.given(),
    )
    typer.echo(text)
