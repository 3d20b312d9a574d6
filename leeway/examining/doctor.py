"""``leeway doctor``: every check in order, a line or two each."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from ...common import devices
from ...common.config import Config, compose, config_in, parse
from ...common.errors import BrokerError, DataError, LeewayError, NoRunError
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue
from ..finding import Place
from ..planning.arithmetic import Shape, shape_of
from . import broker, elsewhere, gpus, packages, reading, room
from .line import Line, State, guarded, mend, ok, unknown

TO_MEND = 12
"""The exit code where something is to be mended."""
ROLES = ("learner", "rollout", "verifier")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be looked at."""

    presets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    run: Place | None = None
    """A run that has been created; its configuration is taken in the place of presets."""
    redis_url: str | None = None
    """The address of Redis; None: ``leeway up`` starts one."""
    runs_dir: Path
    roles: tuple[str, ...] = ()
    """The roles that this machine will have; none: the whole run."""
    imports: bool = True
    """Whether the large packages are imported, which takes most of the time."""


def doctor(asked: Asked, *, as_json: bool) -> int:
    """Print what is found, line by line as it is found, or all of it as JSON. Returns the exit code."""
    found = []
    for line in examine(asked):
        found.append(line)
        if not as_json:
            typer.echo(line.describe())
    counts = {state: sum(line.state is state for line in found) for state in State}
    if as_json:
        typer.echo(json.dumps({"counts": counts, "lines": [asdict(line) for line in found]}, indent=2))
    else:
        typer.echo(_summed_up(counts))
    return TO_MEND if counts[State.MEND] else 0


def _summed_up(counts: dict[State, int]) -> str:
    words = {State.MEND: "to mend", State.NOTE: "to know", State.UNKNOWN: "not looked at", State.OK: "in order"}
    return ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state] or state is State.MEND)


def examine(asked: Asked) -> Iterator[Line]:
    """Every line, in the order in which a fault explains others."""
    roles, whole = asked.roles or ROLES, not asked.roles
    config, lines = _configuration(asked)
    engine = config.rollout.engine if config is not None else "vllm"
    shape = _shape(config) if config is not None else None
    yield from packages.python()
    trackers = config.metrics.trackers if config is not None and "learner" in roles else ()
    yield from packages.packages(
        [*roles, *trackers, *elsewhere.extras(config, roles)], engine, gpus=bool(devices.machine().gpus)
    )
    if asked.imports:
        yield from packages.imports(roles, engine)
    yield from lines
    yield from guarded("GPUs", lambda: gpus.gpus(config, shape, roles))
    if config is not None and whole:
        yield from guarded("placement", lambda: [gpus.placement(config)])
    yield from _redis(asked, config, shape)
    yield from _room(asked, config, shape)
    yield from elsewhere.copies(config, roles, asked.run.run if asked.run is not None else None)
    abilities = list[str]()
    if config is not None:
        yield from _read(config, roles, abilities)
    needed = config is not None and reading.needs_sandbox(config, roles, abilities)
    if needed or "verifier" in roles:
        yield reading.sandbox(config, needed=needed)


def _configuration(asked: Asked) -> tuple[Config | None, list[Line]]:
    """(the configuration that is meant, lines on it)."""
    try:
        if asked.run is not None:
            name, config = f"run {asked.run.run}", _of_run(asked, asked.run)
        elif asked.presets:
            name, config = " + ".join(asked.presets), compose(list(asked.presets), list(asked.settings))
        else:
            how = "name a --preset, or a run that has been created"
            return None, [unknown("configuration", "none is named, so nothing is held against what a run needs", how)]
        return config, [ok("configuration", f"{name}: its keys and values fit each other")]
    except NoRunError as error:
        return None, [mend("configuration", str(error))]
    except BrokerError:
        return None, [unknown("configuration", "it is in Redis, which cannot be asked")]  # a later line says why
    except LeewayError as error:
        return None, [mend("configuration", str(error))]


def _of_run(asked: Asked, run: Place) -> Config:
    """The configuration of a run: from its folder, else from Redis."""
    path = run.folder / "config.toml"
    if path.is_file():
        return config_in(path)
    if asked.redis_url is None:
        raise NoRunError(f"no run {run.run!r} under {run.runs_dir}/, and no --redis-url that might know it")
    with closing(DeskQueue(Connection(asked.redis_url, run.run, retry_s=0.0))) as queue:
        return parse(queue.load_config(), f"run {run.run}")


def _redis(asked: Asked, config: Config | None, shape: Shape | None) -> Iterator[Line]:
    url, run = asked.redis_url, asked.run.run if asked.run is not None else None
    if url is None:
        yield from guarded("Redis", lambda: [broker.own_server()])
        return
    yield from guarded("Redis", lambda: broker.broker(url, run, asked.roles or ROLES, config, shape))


def _shape(config: Config) -> Shape | None:
    """The model's sizes; None where they are not known. Where its folder is damaged, the line on the model says so."""
    try:
        return shape_of(config.model.path)
    except DataError:
        return None


def _room(asked: Asked, config: Config | None, shape: Shape | None) -> Iterator[Line]:
    roles, whole = asked.roles or ROLES, not asked.roles
    if config is None:
        yield room.shared_memory_alone()
        yield room.disk("disk of the runs", asked.runs_dir)
        return
    if shape is None:
        yield unknown("memory", f"the sizes of {config.model.path} are not known here")
    if shape is not None and {"learner", "rollout"} & set(roles):
        yield room.memory(config, shape, roles, room.memory_here())
    if shape is not None and "rollout" in roles:
        yield room.shared_memory(config, shape)
    yield from room.disks(config, shape, roles, asked.runs_dir)
    run = asked.run.run if asked.run is not None else None
    yield from guarded("ports", lambda: room.ports(config, roles, whole=whole, run=run))


def _read(config: Config, roles: tuple[str, ...], abilities: list[str]) -> Iterator[Line]:
    """The lines on what the roles read; the rows' abilities are added to ``abilities``."""
    yield from guarded("own code", lambda: reading.own_code(config))
    usable = True
    if {"learner", "rollout"} & set(roles):
        for line in guarded("model", lambda: [reading.model(config, roles)]):
            usable = line.state is State.OK
            yield line
    if "learner" not in roles:
        return

    def rows() -> list[Line]:
        lines, found = reading.rows(config)
        abilities.extend(found)
        return lines

    if usable:
        yield from guarded("rows", rows)
    else:
        yield unknown("rows", "they need the model's tokenizer")
