"""``leeway learner``: the learner, alone or as one rank of ``torchrun``/``deepspeed``. Arguments first, heavy imports
after."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from ..common.config import Config, dump
from ..common.errors import LeewayError
from ..common.files import path_of, write_whole
from ..common.locks import only_writer
from ..common.preflight.model import check_model
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.stopping import stoppable
from ..common.streams import Bus


def only_learner(folder: Path) -> AbstractContextManager[object]:
    """Hold the run's folder: two learners would write one ledger. ``DataError`` where another one holds it. For rank 0
    alone."""
    return only_writer(folder / "learner.lock", f"{folder}: another learner trains this run", leaving_s=0.0)


def take(folder: Path, bus: Bus, config: Config, holding: ExitStack) -> None:
    """Make the run's folder this learner's, as long as ``holding``, and say that it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.toml").exists():
        write_whole(folder / "config.toml", dump(config))  # without leeway up nobody else has
    holding.enter_context(only_learner(folder))
    # What an earlier learner said last, "stopped" for one, is over.
    bus.set_state(phase="starting", leader=bus.worker, at=bus.now())


def main() -> int:
    """Parse the arguments and run."""
    parser = role_parser("learner", __doc__)
    parser.add_argument(
        "--runs-dir", type=path_of, default=Path("runs"), help="where runs/ID/ is kept: one folder that all ranks share"
    )
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the deepspeed launcher's
    arguments = parser.parse_args()

    def work(bus: Bus, service: Service, config: Config) -> None:
        folder, failure = arguments.runs_dir / arguments.run, None
        with ExitStack() as holding:
            try:
                check_model(config, "train")
                if os.environ.get("RANK", "0") == "0":
                    take(folder, bus, config, holding)
            except (LeewayError, OSError) as error:  # the other ranks are told, below; they wait for this one
                if "RANK" not in os.environ:
                    raise
                failure = error
            from .ranks import join_ranks, raise_together
            from .train import learn

            join_ranks()
            raise_together(failure)
            learn(bus, service, config, folder)

    kept = arguments.runs_dir / arguments.run / "config.toml"
    return run_role("learner", arguments.redis_url, arguments.run, work, wait_s=arguments.wait_s, kept=kept)


if __name__ == "__main__":
    sys.exit(stoppable(main))
