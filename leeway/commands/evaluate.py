"""``leeway eval run``, ``follow``, ``compare`` and ``regrade``. The older spelling, by options, still works."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ...common.limits import MOST_RESPONSES
from ..finding import find_live, model_of
from .become import go_on_as, words_of
from .options import RUNS, AsJson, RunsDir, Settings, path_argument, path_option, spread
from .sampled import Sampled

BENCH = (
    "aime24, aime25, humaneval, livecodebench, each also as NAME=PATH or NAME=HUB-NAME; reasoning-gym:GENERATOR; or a "
    "file in the training schema."
)
Engine = Annotated[str | None, typer.Option("--engine", help="vllm, or torch; a run's own by default.")]


class _AlsoAsBefore(TyperGroup):
    """Four commands. Arguments that begin with none of their names are in the older spelling."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = as_now(args)
            typer.echo(f"leeway eval: this is now spelled  {shlex.join(['leeway', 'eval', *args])}", err=True)
        return super().parse_args(ctx, args)


def as_now(words: list[str]) -> list[str]:
    """Arguments in the spelling from before ``leeway eval`` had commands, as the command that they mean now."""
    for command in ("regrade", "follow"):
        for at, word in enumerate(words):
            if word == f"--{command}" and at + 1 < len(words):
                return [command, words[at + 1], *words[:at], *words[at + 2 :]]
            if word.startswith(f"--{command}="):
                return [command, word.partition("=")[2], *words[:at], *words[at + 1 :]]
    return ["run", *words]


app = typer.Typer(
    cls=_AlsoAsBefore,
    no_args_is_help=True,
    help="avg@n and pass@k of a model, of a run's checkpoint, or of a run while it trains; two evaluations compared.",
)


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Which problems of the benchmarks, and how many responses to each."""

    responses: Annotated[
        int | None,
        typer.Option("--responses", help="n; each benchmark's own by default.", min=1, max=MOST_RESPONSES),
    ] = None
    release: Annotated[str, typer.Option("--release", help="LiveCodeBench's release.")] = "release_v5"
    since: Annotated[str, typer.Option("--since", help="livecodebench: first day of its contests.")] = "2024-08-01"
    until: Annotated[str, typer.Option("--until", help="livecodebench: last day of its contests.")] = "2025-02-01"
    size: Annotated[int, typer.Option("--size", help="Problems of a reasoning-gym generator.", min=1)] = 100

    def words(self, seed: int) -> list[str]:
        """The same as arguments of ``evaluation.prepare``."""
        return words_of(**vars(self), seed=seed)


@app.command()
@spread
def run(
    *,
    benchmarks: Annotated[list[str], typer.Argument(metavar="BENCH...", help=BENCH)],
    model: Annotated[
        str, typer.Option("--model", help="Folder in Hugging Face layout, a hub name, or a run: its id, or runs/ID.")
    ],
    out: Annotated[Path, path_option("--out", help="Folder for responses, verdicts and figures.")],
    step: Annotated[
        int | None, typer.Option("--step", help="Which of a run's checkpoints; the newest by default.")
    ] = None,
    chosen: Benchmarks,
    engine: Engine = None,
    sampled: Sampled,
    runs_dir: RunsDir = RUNS,
) -> None:
    """avg@n and pass@k of a model or of a run's checkpoint. The same command again goes on where it stopped.

    Exit code 3: a benchmark or rows that could not be used, each named; the others are done.
    """
    from ..evaluating import evaluate as desk

    prepare = chosen.words(sampled.seed)
    desk.evaluate(benchmarks, model_of(model, runs_dir), step, out, prepare, sampled.asking(engine))


@app.command()
@spread
def follow(
    *,
    followed: Annotated[str, typer.Argument(metavar="RUN", help="The run: its id, or the path of its folder.")],
    benchmarks: Annotated[list[str], typer.Argument(metavar="BENCH...", help=BENCH)],
    every: Annotated[int, typer.Option("--every", help="Versions from one evaluation to the next.", min=1)] = 20,
    out: Annotated[Path | None, path_option("--out", help="Folder for it; RUN/evaluations/follow by default.")] = None,
    chosen: Benchmarks,
    engine: Engine = None,
    sampled: Sampled,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Evaluate a run while it trains, every so many versions. The same command again goes on where it stopped."""
    from ..evaluating import evaluate as desk

    url, found = find_live(followed, sampled.redis_url, runs_dir)
    out = out or found.folder / "evaluations" / "follow"
    desk.follow(
        benchmarks, found.run, url, every, out, chosen.words(sampled.seed), sampled.asking(engine, redis_url=None)
    )


@app.command()
def compare(
    one: Annotated[Path, path_argument("A", help="An evaluation's folder.")],
    other: Annotated[Path, path_argument("B", help="Another one's.")],
    as_json: AsJson = False,
) -> None:
    """Compare two evaluations, problem by problem, with the interval of the difference."""
    go_on_as("evaluation.compare", str(one), str(other), *words_of(json=as_json))


@app.command()
def regrade(
    folder: Annotated[Path, path_argument("FOLDER", help="An evaluation's folder, with the responses that it keeps.")],
    settings: Settings = None,
    anew: Annotated[bool, typer.Option("--anew", help="Grade every response, not only what has changed.")] = False,
) -> None:
    """Grade an evaluation's kept responses anew, where golds or the verifier have changed."""
    from ..evaluating import evaluate as desk

    desk.regrade(folder, tuple(settings or ()), anew=anew)
