"""Commands around a model and its responses: sample, grade, evaluate, export; and the rows that it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...common import address
from ...common.limits import MOST_RESPONSES
from ..finding import find_live, model_of
from .become import go_on_as
from .options import RUNS, AnyRun, RedisUrl, RunsDir, Settings, path_argument, path_option, spread

if TYPE_CHECKING:
    from ..sampling import Asking

app = typer.Typer()


@app.command()
def verify(
    rows: Annotated[Path, path_argument("IN.jsonl", help="A row: id, response, and answer, tests or entry.")],
    out: Annotated[Path, path_option("--out", help="Verdicts, a line a row, in the same order.")],
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Grading processes; as many as there are cores by default.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0.1, help="Seconds one row may be graded for.")] = 10.0,
    mathematics: Annotated[
        str,
        typer.Option("--math", help="rules: exact rules before Math-Verify; report: Math-Verify alone (report 7.1)."),
    ] = "rules",
    anew: Annotated[
        bool, typer.Option("--anew", help="Grade rows that have changed anew, and all behind them, in OUT.")
    ] = False,
) -> None:
    """Grade a file of responses. The same command again goes on where it stopped, if rows and verifier are the same.

    A row has answer (mathematics, or "ability": "exact"), tests (code) or entry (reasoning-gym).

    Exit code 3: rows that could not be read, each reported by its line; 1: rows that the verifier failed on.
    """
    words = [str(rows), "--out", str(out), "--timeout-s", str(timeout_s), "--math", mathematics]
    words += ["--anew"] if anew else []
    go_on_as("verifier.offline", *words, *(["--jobs", str(jobs)] if jobs else []))


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """How a model is sampled, and by whom."""

    temperature: Annotated[float, typer.Option("--temperature", help="Sampling temperature τ.")] = 1.0
    top_p: Annotated[
        float, typer.Option("--top-p", help="Sample from the likeliest tokens of this share.", min=1e-6, max=1)
    ] = 1.0
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longest response.", min=1)] = 32768
    max_prompt_tokens: Annotated[
        int, typer.Option("--max-prompt-tokens", help="Longer prompts are named and left.", min=1)
    ] = 2048
    seed: Annotated[int, typer.Option("--seed", help="With a problem's row it decides its responses.", min=0)] = 0
    workers: Annotated[int, typer.Option("--workers", help="Rollout workers here; 0: only those you start.", min=0)] = 1
    redis_url: RedisUrl = None
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the queue: leeway rollout and verifier join it by --run.")
    ] = None
    settings: Settings = None
    anew: Annotated[
        bool, typer.Option("--anew", help="Delete what --out has, and begin; with --regrade: grade every response.")
    ] = False

    def asking(self, engine: str | None, **instead: object) -> Asking:
        """As the desk takes it."""
        from ..sampling import Asking

        said = vars(self) | {
            "redis_url": address.resolve(self.redis_url) if self.redis_url else None,
            "settings": tuple(self.settings or ()),
        }
        return Asking(engine=engine, **(said | instead))


@app.command()
@spread
def sample(
    *,
    problems: Annotated[
        Path,
        path_argument("PROBLEMS", help="JSONL, JSON, CSV or Parquet; a row: id, prompt, and answer, tests or entry."),
    ],
    model: Annotated[str, typer.Option("--model", help="Folder in Hugging Face layout, or a hub name.")],
    out: Annotated[Path, path_option("--out", help="Folder for responses.parquet.")],
    responses: Annotated[int, typer.Option("--responses", help="Responses a problem.", min=1, max=MOST_RESPONSES)] = 1,
    engine: Annotated[str, typer.Option("--engine", help="vllm, or torch for small models.")] = "vllm",
    sampled: Sampled,
) -> None:
    """Sample graded responses to every problem of a file. The same command again goes on where it stopped.

    Exit code 3: rows that could not be used, each named; 1: problems that no response could be had for.
    """
    from .. import sampling as desk

    desk.sample(problems, model, out, responses, sampled.asking(engine))


@dataclass(frozen=True, kw_only=True)
class Benchmarks:
    """Which problems of the benchmarks, and how many responses to each."""

    responses: Annotated[
        int | None,
        typer.Option("--responses", help="n; each benchmark's own by default.", min=1, max=MOST_RESPONSES),
    ] = None
    release: Annotated[str, typer.Option("--release", help="LiveCodeBench's release.")] = "release_v5"
    since: Annotated[str, typer.Option("--since", help="First day of its contests.")] = "2024-08-01"
    until: Annotated[str, typer.Option("--until", help="Last day of its contests.")] = "2025-02-01"
    size: Annotated[int, typer.Option("--size", help="Problems of a reasoning-gym generator.", min=1)] = 100

    def words(self, seed: int) -> list[str]:
        """As ``evaluation.prepare`` takes them."""
        said = vars(self) | {"seed": seed}
        return [word for name, value in said.items() if value is not None for word in (f"--{name}", str(value))]


@app.command("eval")
@spread
def evaluate(
    *,
    benchmarks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BENCH... | compare A B",
            help="aime24, aime25, humaneval, livecodebench, each also as NAME=PATH or NAME=HUB-NAME; "
            "reasoning-gym:GENERATOR; or a file in the training schema. compare: two evaluations' folders.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Folder in Hugging Face layout, a hub name, or a run: its id, or runs/ID."),
    ] = None,
    step: Annotated[int | None, typer.Option("--step", help="Of a run's checkpoints; the newest by default.")] = None,
    follow: Annotated[
        str | None, typer.Option("--follow", help="A run, by id or path: evaluate it while it trains.")
    ] = None,
    every: Annotated[int, typer.Option("--every", help="With --follow: versions from one to the next.", min=1)] = 20,
    regrade: Annotated[Path | None, path_option("--regrade", help="Grade a folder's kept responses anew.")] = None,
    out: Annotated[Path | None, path_option("--out", help="Folder; with --follow runs/ID/evaluations/follow.")] = None,
    chosen: Benchmarks,
    engine: Annotated[str | None, typer.Option("--engine", help="vllm, or torch; a run's own by default.")] = None,
    sampled: Sampled,
    runs_dir: RunsDir = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="compare: for machines.")] = False,
) -> None:
    """avg@n and pass@k of a model, of a run's checkpoint, or of a run while it trains. Goes on where it was stopped.

    Exit code 3: a benchmark or rows that could not be used, each named; the others are done.
    """
    from ...common.errors import ConfigError
    from .. import evaluate as desk

    words = benchmarks or []
    if words[:1] == ["compare"]:
        if len(words) != 3:
            raise ConfigError("leeway eval compare A B: two evaluations' folders are due")
        go_on_as("evaluation.compare", *words[1:], *(["--json"] if as_json else []))
    prepare = chosen.words(sampled.seed)
    if regrade is not None:
        desk.regrade(regrade, tuple(sampled.settings or ()), anew=sampled.anew)
    elif words and model is not None and follow is None and out is not None:
        desk.evaluate(words, model_of(model, runs_dir), step, out, prepare, sampled.asking(engine))
    elif words and model is None and follow is not None:
        theirs, found = find_live(follow, sampled.redis_url, runs_dir)
        out = out or found.folder / "evaluations" / "follow"
        desk.follow(words, found.run, theirs, every, out, prepare, sampled.asking(engine, redis_url=None))
    else:
        raise ConfigError(
            "leeway eval BENCH... --model FOLDER --out OUT, BENCH... --follow RUN, compare A B, or --regrade OUT"
        )


@app.command()
@spread
def export(
    *,
    run: AnyRun,
    out: Annotated[Path, path_option("--out", help="Folder to write; empty or not there yet.")],
    step: Annotated[
        int | None, typer.Option("--step", help="Training steps made; the newest checkpoint by default.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16 or float32; the base model's by default.")
    ] = None,
) -> None:
    """Write a checkpoint as a Hugging Face folder with a model card, for from_pretrained and vllm serve."""
    found = run.find()
    words = [found.run, "--out", str(out), "--runs-dir", str(found.runs_dir)]
    words += ["--step", str(step)] if step is not None else []
    words += ["--dtype", dtype] if dtype is not None else []
    go_on_as("learner.export", *words)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def data(context: typer.Context) -> None:
    """Prepare training rows: sources, steps, difficulty, judges, funnel, card. See: leeway data --help"""
    go_on_as("data", *context.args)
