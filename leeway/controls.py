"""The dial: live controls of a running run."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast, get_args

import typer

from ..common.config import Overflow, PipelineDepth, parse, refuse_below_lag, refuse_shallow
from ..common.errors import ConfigError
from ..common.streams import Bus


def _number(kind: type[int] | type[float]) -> Callable[[str], int | float]:
    def read(text: str) -> int | float:
        number = kind(text)
        if not 0 <= number < float("inf"):
            raise ValueError
        return number

    return read


def _policy(text: str) -> str:
    if text not in get_args(Overflow):
        raise ValueError
    return text


def _depth(text: str) -> int | str:
    if text != "auto" and int(text) < 1:
        raise ValueError
    return text if text == "auto" else int(text)


# name on the command line -> (key the learner reads, how its value is read, what would be right)
_CONTROLS: dict[str, tuple[str, Callable[[str], int | float | str], str]] = {
    "max-staleness": ("max_staleness", _number(int), "a whole number of versions, 0 or more"),
    "overflow": ("overflow", _policy, f"one of {', '.join(get_args(Overflow))}"),
    "pipeline-depth": ("pipeline_depth", _depth, "auto, or how many groups may be live, at least 1"),
    "target-entropy": ("target_entropy", _number(float), "nats a token, 0 or more"),
    "paused": ("paused", _number(int), "0 or 1"),
}


def turn(redis_url: str, run: str, name: str, value: str) -> None:
    """Set control ``name``. The learner takes it up at its next admission and records it in the ledger."""
    if name not in _CONTROLS:
        raise ConfigError(f"no live control {name!r}; there are {', '.join(_CONTROLS)}")
    key, read, right = _CONTROLS[name]
    try:
        wanted = read(value)
    except ValueError:
        raise ConfigError(f"{name} = {value!r}: {right}") from None
    bus = Bus(redis_url, run)
    try:
        config = parse(bus.load_config())  # an unknown run is the user's error, not a new hash
        if key == "max_staleness" and wanted != 0 and config.flow.strictly_on_policy:
            raise ConfigError(f"{name} = {value!r}: run {run!r} was started with flow.strictly_on_policy = true")
        if key == "max_staleness":
            refuse_below_lag(cast(int, wanted), config.flow)
        if key == "pipeline_depth":
            for view in config.views():
                refuse_shallow(view.train.groups_per_step, cast(PipelineDepth, wanted))
        bus.set_control(key, str(wanted))
    finally:
        bus.close()
    typer.echo(f"{run}: {name} = {wanted}, from the next admission on")
