"""``leeway clean``: remove what a run has in Redis."""

from collections import Counter

import typer

from ...common.errors import RunExistsError
from ...common.queue.connection import Connection
from ...common.queue.desk import DeskQueue


def clean(redis_url: str, run: str, *, force: bool) -> None:
    """Remove every key of ``run`` and print what the keys were. ``RunExistsError`` where workers are alive and
    ``force`` is false. The run's folder, its checkpoints and a shared folder of weights stay."""
    queue = DeskQueue(Connection(redis_url, run))
    try:
        alive = Counter(worker.role for worker in queue.overview.workers()[0])
        if alive and not force:
            roles = ", ".join(f"{count} {role}" for role, count in sorted(alive.items()))
            raise RunExistsError(f"run {run!r} is alive ({roles}): stop it first, or say --force")
        removed = queue.clean()
    finally:
        queue.close()
    kinds = ", ".join(f"{count} {kind}" for kind, count in removed.items())
    typer.echo(f"{run}: {sum(removed.values())} keys removed ({kinds})" if removed else f"{run}: nothing in this Redis")
