"""The dial: live controls of a running run."""

from contextlib import closing

import typer

from ...common.config import parse
from ...common.controls import read_control, refuse_forbidden
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue


def turn(redis_url: str, run: str, name: str, value: str) -> None:
    """Set control ``name``. The learner takes it up at its next admission and records it in the ledger."""
    key = name.replace("-", "_")
    wanted = read_control(key, value)
    with closing(DeskQueue(Connection(redis_url, run))) as queue:
        refuse_forbidden(key, wanted, parse(queue.load_config()))  # an unknown run is the user's error, not a new hash
        queue.set_control(key, str(wanted))
    typer.echo(f"{run}: {name} = {wanted}, from the next admission on")
