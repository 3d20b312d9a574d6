"""The dial: live controls of a running run."""

from __future__ import annotations

import typer

from ..common.config import parse
from ..common.controls import read_control, refuse_forbidden
from ..common.streams import Bus


def turn(redis_url: str, run: str, name: str, value: str) -> None:
    """Set control ``name``. The learner takes it up at its next admission and records it in the ledger."""
    key = name.replace("-", "_")
    wanted = read_control(key, value)
    bus = Bus(redis_url, run)
    try:
        refuse_forbidden(key, wanted, parse(bus.load_config()))  # an unknown run is the user's error, not a new hash
        bus.set_control(key, str(wanted))
    finally:
        bus.close()
    typer.echo(f"{run}: {name} = {wanted}, from the next admission on")
