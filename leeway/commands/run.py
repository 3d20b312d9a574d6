"""Commands that start a run, or a part of one."""

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ...common import address
from ...common.errors import ConfigError
from ..finding import address_of, find, place
from .become import become, go_on_as, go_on_with, told_address, words_of
from .options import RUNS, AsJson, NamedRun, Presets, RedisUrl, RunsDir, RunsRedisUrl, Settings, path_option, spread

app = typer.Typer()


class Role(StrEnum):
    """A role, as ``--role`` names it."""

    LEARNER = "learner"
    ROLLOUT = "rollout"
    VERIFIER = "verifier"


@dataclass(frozen=True, kw_only=True)
class StartedRun(NamedRun):
    """A run that is started or resumed."""

    word: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="The run: its id, or the path of its folder. By default it is named after the preset and the time.",
        ),
    ] = None


@app.command()
@spread
def up(
    *,
    run: StartedRun,
    preset: Presets = None,
    settings: Settings = None,
    redis_url: RedisUrl = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the newest checkpoint. --set may change ranks, ZeRO stage, workers, placement, hours, "
            "code of your own and where checkpoints are copied.",
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print the configuration, its tokens, memory, speed, processes and GPUs."),
    ] = False,
    gpu_gb: Annotated[
        float | None, typer.Option("--gpu-gb", help="With --dry-run: memory of each GPU, in GB. (80)", min=1, max=10**6)
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="With --dry-run: print configuration and processes alone, as JSON, for programs."),
    ] = False,
) -> None:
    """Run everything on this machine: server, learner, rollout and verifier workers, with a live view."""
    from ..running import up as desk
    from ..running.dry_run import DryRun

    server = address.resolve(redis_url) if redis_url else None  # without an address the run brings its own server
    name, runs_dir = None, run.runs_dir
    if run.said is not None:
        found = run.find() if resume else run.place()
        name, runs_dir = found.run, found.runs_dir
    gpu_bytes = None if gpu_gb is None else 1e9 * gpu_gb
    if as_json and not dry_run:
        raise ConfigError("--json is for --dry-run; of a run that is at work, leeway status --json tells")
    dry = DryRun(gpu_bytes=gpu_bytes, as_json=as_json) if dry_run else None
    desk.up(name, preset or [], settings or [], server, runs_dir, resume=resume, dry=dry)


@dataclass(frozen=True, kw_only=True)
class ExaminedRun(NamedRun):
    """A run that this machine is to take part in, if one is named."""

    word: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run that has been created: its id, or the path of its folder."),
    ] = None


@app.command()
@spread
def doctor(
    *,
    run: ExaminedRun,
    preset: Presets = None,
    settings: Settings = None,
    redis_url: RunsRedisUrl = None,
    role: Annotated[
        list[Role] | None,
        typer.Option("--role", help="Only what this role needs here; may be repeated. The whole run by default."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the imports of large packages, which take most of the time.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at what a run needs of this machine, before it starts. Each line is ok, or says how to mend it.

    Nothing is started or changed. With --preset, or a run that has been created, the machine is held against that
    configuration. Exit code 12: something is to be mended.
    """
    from ..examining import doctor as desk

    found = run.place() if run.said is not None else None
    if found is not None and preset:
        raise ConfigError(f"a run ({found.run}) and a --preset are named: name one, whose configuration counts")
    # Without an address leeway up brings its own server; a role, and a run that is not here, have theirs somewhere.
    elsewhere = redis_url is not None or role or (found is not None and not found.exists)
    asked = desk.Asked(
        presets=tuple(preset or ()),
        settings=tuple(settings or ()),
        run=found,
        redis_url=(address.resolve(redis_url) if found is None else address_of(found, redis_url))
        if elsewhere
        else None,
        runs_dir=found.runs_dir if found is not None else run.runs_dir,
        roles=tuple(dict.fromkeys(each.value for each in role or ())),
        imports=not quick,
    )
    raise typer.Exit(desk.doctor(asked, as_json=as_json))


@app.command()
def fork(
    parent: Annotated[str, typer.Argument(metavar="RUN", help="The run to start from: its id, or its folder's path.")],
    run: Annotated[str, typer.Option("--run", metavar="NEW", help="The new run: its id, or its folder's path.")],
    step: Annotated[
        int | None, typer.Option("--step", help="Training steps made; the newest checkpoint by default.", min=0)
    ] = None,
    settings: Settings = None,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Make a new run that starts from a checkpoint of another one, with other keys: leeway up --run NEW --resume.

    RUN may be finished or at work, and is not changed. The new run's ledger says where it comes from.
    """
    from ..running.own_code import settings_with_digests

    found, new = find(parent, runs_dir), place(run, runs_dir)
    told = settings_with_digests(found.folder / "config.toml", settings or [])
    sets = [word for text in told for word in ("--set", text)]
    go_on_as("learner.fork", str(found.folder), *words_of(into=new.folder, step=step), *sets)


@app.command()
def server(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at beside the loopback: one of this machine's, or 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="TCP port.", min=1, max=65535)] = 6379,
    name: Annotated[
        str | None, typer.Option("--name", help="What the nodes call this machine; its host name by default.")
    ] = None,
    folder: Annotated[Path, path_option("--folder", help="For its file, log, addresses.")] = Path("leeway-server"),
    password_file: Annotated[
        Path | None,
        path_option("--password-file", help="One password for everybody; made at random where there is no file."),
    ] = None,
    passwords: Annotated[
        Path | None, path_option("--passwords", help="A user for each role; the file of leeway acl --passwords.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="At most so much, for instance 16gb; what there is by default.")
    ] = None,
    binary: Annotated[
        Path | None,
        path_option("--binary", help="redis-server or valkey-server; from PATH, or leeway-rl[server]'s, by default."),
    ] = None,
) -> None:
    """Run the Redis-protocol server of a cluster, with the options that Leeway needs, until SIGTERM or Ctrl-C.

    It keeps an append-only file and evicts nothing. An address that other machines reach needs a password.
    """
    from ..running.serve import Serving, serve

    serve(
        Serving(
            host=host,
            port=port,
            name=name,
            folder=folder,
            password_file=password_file,
            passwords=passwords,
            memory=memory,
            binary=binary,
        )
    )


@app.command()
@spread
def create(run: NamedRun, preset: Presets = None, settings: Settings = None, redis_url: RedisUrl = None) -> None:
    """Store a run's configuration in Redis, for roles on cluster nodes to find."""
    from ..running import up as desk

    desk.create(run.place().run, preset or [], settings or [], address.resolve(redis_url))


@app.command()
@spread
def rollout(run: NamedRun, redis_url: RunsRedisUrl = None) -> None:
    """One rollout worker: takes prompts, generates responses. Start as many as you like, anywhere, at any time."""
    become("rollout", run.place(), redis_url)


@app.command()
@spread
def verifier(run: NamedRun, redis_url: RunsRedisUrl = None) -> None:
    """One verifier worker: takes responses, gives verdicts. Start as many as you like, anywhere, at any time."""
    become("verifier", run.place(), redis_url)


@app.command()
@spread
def learner(
    *,
    run: NamedRun,
    redis_url: RunsRedisUrl = None,
    preset: Presets = None,
    settings: Settings = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes of the learner, each with this command.", min=1)] = 1,
    node: Annotated[int, typer.Option("--node", help="Which of them this machine is, from 1 on.", min=1)] = 1,
    first_node: Annotated[
        str | None, typer.Option("--first-node", help="With --nodes: HOST or HOST:PORT of node 1, for all to meet at.")
    ] = None,
) -> None:
    """The learner: issues, trains, publishes, checkpoints; goes on from its newest checkpoint if there is one.

    With --preset it creates the run first. It starts this node's part of train.ranks, under torchrun where there are
    several; with GPUs, each rank has its own of those in CUDA_VISIBLE_DEVICES.
    """
    name = run.place()
    url = told_address(name, redis_url)
    if preset or settings:
        from ..running import up as desk

        desk.create(name.run, preset or [], settings or [], url, same_is_fine=True)
    from ..running.learner import Node, command_here

    command, gpus = command_here(name.run, name.runs_dir, url, Node(nodes=nodes, node=node, first=first_node))
    os.environ.update(gpus)
    os.environ[address.VARIABLE] = url
    go_on_with(command)
