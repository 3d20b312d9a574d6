"""Commands around a model and its responses: sample, grade, export; and the rows that it is trained on."""

from pathlib import Path
from typing import Annotated

import typer

from ...common.limits import LONGEST_CALL_S, MOST_RESPONSES
from . import evaluate
from .become import go_on_as, words_of
from .options import AnyRun, path_argument, path_option, spread
from .sampled import Sampled

app = typer.Typer()
app.add_typer(evaluate.app, name="eval")


@app.command()
def verify(
    rows: Annotated[Path, path_argument("IN.jsonl", help="A row: id, response, and answer, tests or entry.")],
    out: Annotated[Path, path_option("--out", help="File for verdicts, one line a row, in the same order.")],
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, max=4096, help="Grading processes; as many as there are cores by default."),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0.1, max=LONGEST_CALL_S, help="Seconds one row may be graded for.")
    ] = 10.0,
    mathematics: Annotated[
        str,
        typer.Option("--math", help="rules: exact rules before Math-Verify; report: Math-Verify alone (report 7.1)."),
    ] = "rules",
    anew: Annotated[
        bool, typer.Option("--anew", help="Where a row has changed, grade it and all after it anew.")
    ] = False,
) -> None:
    """Grade a file of responses. The same command again goes on where it stopped, if rows and verifier are the same.

    A row has answer (mathematics, or "ability": "exact"), tests (code) or entry (reasoning-gym).

    Exit code 3: rows that could not be read, each reported by its line; 1: rows that the verifier failed on.
    """
    words = words_of(out=out, timeout_s=timeout_s, math=mathematics, anew=anew, jobs=jobs)
    go_on_as("verifier.offline", str(rows), *words)


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
    from ..evaluating import sampling as desk

    code = desk.sample(problems, model, out, responses, sampled.asking(engine))
    typer.echo(out / "responses.parquet")
    raise typer.Exit(code)


@app.command()
@spread
def export(
    *,
    run: AnyRun,
    out: Annotated[Path | None, path_option("--out", help="Folder to write; empty or not there yet.")] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push", metavar="ORG/NAME", help="Push it to the hub, into this repository; private by default."
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: the repository may be public.")] = False,
    step: Annotated[
        int | None, typer.Option("--step", help="Training steps made; the newest checkpoint by default.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16 or float32; the base model's by default.")
    ] = None,
) -> None:
    """Write a checkpoint as a Hugging Face folder with a model card, for from_pretrained and vllm serve.

    With --push it goes to the hub, with or without a folder of your own: the weights, the tokenizer and the card, never
    an optimizer's state. The token is taken from HF_TOKEN, or from where hf auth login has put it.
    """
    found = run.find()
    words = words_of(out=out, push=push, public=public, runs_dir=found.runs_dir, step=step, dtype=dtype)
    go_on_as("learner.export", found.run, *words)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def data(context: typer.Context) -> None:
    """Prepare training rows: sources, steps, difficulty, judges, funnel, card. See: leeway data --help"""
    go_on_as("data", *context.args)
