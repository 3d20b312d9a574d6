"""``leeway learner``: the learner, alone or as one rank of ``torchrun``/``deepspeed``. The arguments are parsed first,
and the heavy imports follow."""

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
from ..common.queue.learner import LearnerQueue
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.stopping import stoppable


def only_learner(folder: Path) -> AbstractContextManager[object]:
    """Hold the run's folder, since two learners would write one ledger. Only rank 0 calls it. ``DataError`` where
    another learner holds the folder."""
    return only_writer(folder / "learner.lock", f"{folder}: another learner trains this run", leaving_s=0.0)


def take(folder: Path, queue: LearnerQueue, config: Config, holding: ExitStack) -> None:
    """Make the run's folder this learner's, as long as ``holding``, and say that it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.toml").exists():
        write_whole(folder / "config.toml", dump(config))  # leeway up has written one, where it started the run
    holding.enter_context(only_learner(folder))
    # This replaces the last state that an earlier learner set, such as "stopped".
    queue.record.set_state(phase="starting", leader=queue.worker, at=queue.now())


def main() -> int:
    """Parse the arguments and run."""
    parser = role_parser("learner", __doc__)
    parser.add_argument(
        "--runs-dir", type=path_of, default=Path("runs"), help="folder that has runs/ID/; all ranks must share it"
    )
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the deepspeed launcher's
    arguments = parser.parse_args()

    def work(queue: LearnerQueue, service: Service, config: Config) -> None:
        folder, failure = arguments.runs_dir / arguments.run, None
        with ExitStack() as holding:
            try:
                check_model(config, "train")
                if os.environ.get("RANK", "0") == "0":
                    take(folder, queue, config, holding)
            except (LeewayError, OSError) as error:  # the other ranks wait for this one, and are told below
                if "RANK" not in os.environ:
                    raise
                failure = error
            from .ranks import join_ranks, leave_ranks, raise_together
            from .train import learn

            join_ranks(config.train.collective_timeout_s)
            raise_together(failure)
            learn(queue, service, config, folder)
            leave_ranks()

    kept = arguments.runs_dir / arguments.run / "config.toml"
    of = arguments.redis_url, arguments.run
    return run_role("learner", LearnerQueue, *of, work, wait_s=arguments.wait_s, kept=kept)


if __name__ == "__main__":
    sys.exit(stoppable(main))
