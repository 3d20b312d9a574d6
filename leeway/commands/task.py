"""Commands for a task of one's own: a folder to start from, and a look before anything is trained."""

from pathlib import Path
from typing import Annotated

import typer

from .options import Settings, path_argument

app = typer.Typer()


@app.command()
def init(
    folder: Annotated[Path, path_argument("FOLDER", help="Folder to make, for instance my-task.")],
    environment: Annotated[
        bool,
        typer.Option(
            "--environment",
            help="Make an environment, which answers and rewards the policy's turns, in place of a reward.",
        ),
    ] = False,
) -> None:
    """Make a folder for a task of your own: a preset, a reward with its test, twenty rows, a README."""
    from ...common.task import ENVIRONMENT, REWARD, make_task

    for path in make_task(folder, ENVIRONMENT if environment else REWARD):
        typer.echo(str(path))
    typer.echo(f"next: leeway check {folder / 'preset.toml'}")


@app.command()
def check(
    preset: Annotated[list[str], typer.Argument(metavar="PRESET", help="Preset, or several that are composed.")],
    settings: Settings = None,
    rows: Annotated[int, typer.Option("--rows", help="Rows to look at.", min=1, max=100)] = 4,
    responses: Annotated[int, typer.Option("--responses", help="Responses to sample to each.", min=1, max=64)] = 4,
) -> None:
    """Grade a few rows, sample a few responses, and print what a training step would look like. Trains nothing.

    Exit code 0: it works. 1: a reward failed on a response. 2: the configuration or your code cannot work.
    3: the model or the rows cannot be used.
    """
    from ..evaluating import check as desk

    desk.check(preset, settings or [], rows=rows, responses=responses)
