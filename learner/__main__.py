"""``leeway learner``: the learner, alone or as one rank of ``torchrun``/``deepspeed``. Arguments first, heavy imports
after."""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..common.config import Config, dump
from ..common.errors import DataError
from ..common.files import write_whole
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.streams import Bus


@contextmanager
def only_learner(folder: Path) -> Iterator[None]:
    """Hold the run's folder: two learners would write one ledger. ``DataError`` where another one holds it.

    Rank 0 alone holds it; the lock goes with the process, however that ends.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with (folder / "learner.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise DataError(f"{folder}: another learner (process {holder}) trains this run; stop it first") from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def main() -> int:
    """Parse the arguments and run."""
    parser = role_parser("learner", __doc__)
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs/ID/ is kept, on every rank")
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the deepspeed launcher's
    arguments = parser.parse_args()

    def work(bus: Bus, service: Service, config: Config) -> None:
        from .train import learn

        folder = arguments.runs_dir / arguments.run
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "config.toml").exists() and os.environ.get("RANK", "0") == "0":
            write_whole(folder / "config.toml", dump(config))  # without leeway up nobody else has
        with only_learner(folder):
            learn(bus, service, config, folder)

    kept = arguments.runs_dir / arguments.run / "config.toml"
    return run_role("learner", arguments.redis_url, arguments.run, work, wait_s=arguments.wait_s, kept=kept)


if __name__ == "__main__":
    sys.exit(main())
