"""``leeway up --dry-run``: a configuration, what it means, and what was found on this machine. Nothing starts."""

import json
from dataclasses import dataclass

import typer

from ...common.config import Config, dump
from ...common.errors import ConfigError, DataError
from ...common.preflight.model import why_not_spread
from ...common.rope import why_too_long
from ..planning.arithmetic import Gpu, describe, shape_of, why_not
from . import launcher
from .elsewhere import why_missing_package
from .placement import page, processes
from .preflight import preflight
from .trackers import why_missing


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What is asked of a dry run."""

    gpu_bytes: float | None = None
    """The memory of each GPU, where it is another than by default."""
    as_json: bool = False
    """Whether to print only what scripts need."""


def show(config: Config, asked: DryRun) -> None:
    """Print it. ``ConfigError`` where the configuration does not fit its GPUs, after all is printed."""
    gpu = Gpu() if asked.gpu_bytes is None else Gpu(bytes=asked.gpu_bytes)
    typer.echo(for_machines(config) if asked.as_json else whole(config, gpu))
    shape = shape_of(config.model.path)
    if shape is not None and (why := why_not(config, shape, gpu)) is not None:
        raise ConfigError(f"it does not fit: {why}")


def whole(config: Config, gpu: Gpu | None = None) -> str:
    """All that ``--dry-run`` prints: TOML, and the rest as its comments. ``gpu``: what each GPU is, by default an H100
    of 80 GB."""
    found, meaning = preflight(config, dry_run=True), arithmetic(config, gpu)
    why = why_missing(config.metrics.trackers) or why_missing_package(config) or launcher.why_not_here(config)
    if why is not None:
        found = [*found, f"leeway up would refuse this here: {why}"]
    return "\n".join([dump(config), meaning, "#", *(f"# {line}" for line in found)])


def for_machines(config: Config) -> str:
    """The configuration and its processes as one JSON object, for a script that starts them on a cluster."""
    preflight(config, dry_run=True)
    layout = launcher.drawn(config)
    return json.dumps({"config": config.model_dump(mode="json"), "processes": processes(config, layout)})


def arithmetic(config: Config, gpu: Gpu | None = None) -> str:
    """Tokens, memory, speed and layout as TOML comments. They are the same on every machine, if the configuration says
    whether it computes on GPUs. ``ConfigError`` and ``DataError`` for what the model's shape refuses."""
    shape = shape_of(config.model.path)
    if shape is not None:  # known also for a base model that is not on this machine
        if (why := why_too_long(config.tokens_by_key, f"model {config.model.path}", shape.context)) is not None:
            raise DataError(why)
        heads = {"num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads}
        if (why := why_not_spread(heads, config.rollout.tensor_parallel)) is not None:
            raise ConfigError(f"model {config.model.path}: {why}")
        if (why := config.weights.why_too_large(shape.parameters)) is not None:
            raise ConfigError(f"model {config.model.path}: {why}")
    gpu = gpu or Gpu()
    return describe(config, shape, gpu, more=[page(config, launcher.drawn(config), shape, gpu)])
