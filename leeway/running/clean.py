"""``leeway clean``: remove what a run has in Redis, and this machine's copy of its weights if nobody uses it."""

from collections import Counter
from contextlib import closing, suppress

import typer

from ...common.config import parse
from ...common.errors import LeewayError, RunExistsError
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue
from ...common.weights import node_folder
from ...common.wording import counted


def clean(redis_url: str, run: str, *, force: bool) -> None:
    """Remove every key of ``run`` and print what the keys were; remove also this machine's copy of its weights, where
    no worker is in it any more. ``RunExistsError`` where workers are alive and ``force`` is false. The run's folder,
    its checkpoints and a shared folder of weights stay."""
    with closing(DeskQueue(Connection(redis_url, run))) as queue:
        alive = Counter(worker.role for worker in queue.overview.workers()[0])
        if alive and not force:
            roles = ", ".join(f"{count} {role}" for role, count in sorted(alive.items()))
            raise RunExistsError(f"run {run!r} is alive ({roles}): stop it first, or say --force")
        folder = None
        with suppress(LeewayError):  # the configuration is gone, or of another build
            folder = parse(queue.load_config(), f"configuration of {run}").weights.node
        removed = queue.clean()
    kinds = ", ".join(f"{count} {kind}" for kind, count in removed.items())
    copies = [base / node_folder.name_of(redis_url, run) for base in node_folder.bases(folder)]
    for path in filter(node_folder.remove_if_left, copies):
        typer.echo(f"{run}: the copy of the weights on this machine is removed ({path})")
    typer.echo(
        f"{run}: {counted(sum(removed.values()), 'key')} removed ({kinds})"
        if removed
        else f"{run}: nothing in this Redis"
    )
