"""The dial: live controls of a running run."""

from contextlib import closing

import typer

from ...common.config import parse
from ...common.controls import AT_A_STEP, key_of, read_control, refuse_forbidden
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue


def turn(redis_url: str, run: str, name: str, value: str) -> None:
    """Set control ``name``, and say so."""
    with closing(DeskQueue(Connection(redis_url, run))) as queue:
        typer.echo(turned(queue, name, value))


def turned(queue: DeskQueue, name: str, value: str) -> str:
    """Set control ``name`` of the queue's run. The learner takes it up at its next admission and records it in the
    ledger. Returns what to tell; ``ConfigError`` where there is no such control, or the run forbids the value."""
    key = key_of(name)
    wanted = read_control(key, value)
    refuse_forbidden(key, wanted, parse(queue.load_config()))  # an unknown run is the user's error, not a new hash
    queue.set_control(key, str(wanted))
    if key == "paused":
        paused = "no further ticket is issued until leeway resume; what is live goes on"
        return f"{queue.run}: {paused if wanted else 'tickets are issued again'}"
    begins = "training step" if key in AT_A_STEP else "ticket"
    return f"{queue.run}: {name} = {wanted}, from the next {begins} on"
