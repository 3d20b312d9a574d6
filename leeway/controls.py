"""The dial: live controls of a running run."""

from __future__ import annotations

from collections.abc import Callable

import typer

from ..common.config import parse
from ..common.errors import ConfigError
from ..common.streams import Bus

# name on the command line -> (key the learner reads, how its value is read, what would be right)
_CONTROLS: dict[str, tuple[str, Callable[[str], float], str]] = {
    "max-staleness": ("max_staleness", int, "a whole number of versions, 0 or more"),
    "target-entropy": ("target_entropy", float, "nats a token, 0 or more"),
    "paused": ("paused", int, "0 or 1"),
}


def turn(redis_url: str, run: str, name: str, value: str) -> None:
    """Set control ``name``. The learner takes it up at its next admission and records it in the ledger."""
    if name not in _CONTROLS:
        raise ConfigError(f"no live control {name!r}; there are {', '.join(_CONTROLS)}")
    key, read, right = _CONTROLS[name]
    try:
        number = read(value)
    except ValueError:
        number = -1
    if not 0 <= number < float("inf"):
        raise ConfigError(f"{name} = {value!r}: {right}")
    bus = Bus(redis_url, run)
    try:
        config = parse(bus.load_config())  # an unknown run is the user's error, not a new hash
        if key == "max_staleness" and number > 0 and config.flow.strictly_on_policy:
            raise ConfigError(f"{name} = {value!r}: run {run!r} was started with flow.strictly_on_policy = true")
        bus.set_control(key, str(number))
    finally:
        bus.close()
    typer.echo(f"{run}: {name} = {number}, from the next admission on")
