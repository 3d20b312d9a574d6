"""The ``leeway`` command: its groups of commands, and how errors become exit codes. Each group has a file in
``commands/``."""

import inspect
import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..common.errors import BrokerError, told
from ..common.stopping import stoppable
from .commands import keep, look, model, plan, run, study, task

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
GROUPS = (
    ("Start a run, or a part of one", run.app),
    ("A task of your own", task.app),
    ("Look at a run", look.app),
    ("Steer a run, and clean up after it", keep.app),
    ("Models, responses and rows", model.app),
    ("Plan, compare and prove", plan.app),
    ("Plan, compare and prove", study.app),
)
for panel, group in GROUPS:
    for command in group.registered_commands:
        command.rich_help_panel = panel
        # The terminal breaks a paragraph where it has to. Typer would break it where the source does, too.
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    for below in group.registered_groups:
        below.rich_help_panel = panel
    app.add_typer(group)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"leeway {__version__}")
        raise typer.Exit


@app.callback()
def leeway(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Asynchronous RL post-training with a staleness bound you can turn. Start with: leeway up --preset tiny"""


def main() -> None:
    """The console script. A ``LeewayError`` becomes one line and its exit code; SIGTERM and Ctrl-C become
    ``STOPPED``."""
    # Neither the processes that we start nor those that they start may import a module from the user's current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    sys.exit(stoppable(lambda: told("leeway", _command)))


def _command() -> None:
    try:
        app()
    except Exception as error:
        from ..common.queue.connection import RedisError, why_lost

        if isinstance(error, RedisError):
            raise BrokerError(why_lost(error)) from error
        raise


if __name__ == "__main__":
    main()
