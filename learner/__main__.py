"""``leeway learner``: the learner, alone or as one rank of ``torchrun``/``deepspeed``. The arguments are parsed first,
and the heavy imports follow."""

import argparse
import os
import sys
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from ..common import devices
from ..common.config import Config, dump
from ..common.errors import ConfigError, LeewayError
from ..common.files import path_of, write_whole
from ..common.large_imports import large_import
from ..common.ledger import refuse_other_format
from ..common.locks import only_writer
from ..common.preflight.model import check_model, check_reference
from ..common.queue.learner import LearnerQueue
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.stopping import stoppable


def only_learner(folder: Path, drain_s: float) -> AbstractContextManager[object]:
    """Hold the run's folder, since two learners would write one ledger. Only rank 0 calls it. ``DataError`` where
    another learner holds the folder. Under a supervisor, which starts a learner when the one before has died, that is
    a rank which torchrun has left behind: it has been told to leave, and has ``drain_s`` seconds for that."""
    leaves_s = drain_s if "LEEWAY_SUPERVISOR" in os.environ else 0.0
    place = f"{folder}: another learner trains this run"
    return only_writer(folder / "learner.lock", place, leaving_s=leaves_s, alive_s=leaves_s)


def take(folder: Path, queue: LearnerQueue, config: Config, holding: ExitStack) -> None:
    """Make the run's folder this learner's, as long as ``holding``, and say that it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    refuse_other_format(folder)
    if not (folder / "config.toml").exists():
        write_whole(folder / "config.toml", dump(config))  # leeway up has written one, where it started the run
    holding.enter_context(only_learner(folder, config.broker.drain_s))
    # This replaces the last state that an earlier learner set, such as "stopped".
    queue.record.set_state(phase="starting", leader=queue.worker, at=queue.now())


def take_gpus(config: Config) -> None:
    """Refuse to start with fewer GPUs than the configuration gives the ranks of this node, and hide them where it gives
    none. Every rank of the node sees all of them, and takes its own by its number there."""
    said, here = config.placement.learner, devices.ranks_here()
    if said == "cpu":
        devices.hide()
        return
    own = config.placement.reference == "own"
    asked = f"placement.learner = {said!r} with {here} of the learner's ranks on this node"
    asked += " and placement.reference = 'own'" if own else ""
    devices.refuse_too_few(here * (2 if own else 1), asked, required=said == "gpu" or own)


def refuse_blind_torch(config: Config) -> None:
    """``ConfigError`` where torch sees no GPU although the configuration gives the ranks some: training on the CPU
    would go on for years without a word."""
    import torch

    if config.placement.learner == "gpu" and not torch.cuda.is_available():
        raise ConfigError(
            f"placement.learner = 'gpu', and torch {torch.__version__} sees no GPU: is it a build for the CPU, or the "
            "driver older than it needs?"
        )


def main() -> int:
    """Parse the arguments and run."""
    parser = role_parser("learner", __doc__)
    parser.add_argument(
        "--runs-dir", type=path_of, default=Path("runs"), help="folder that has runs/ID/; all ranks must share it"
    )
    parser.add_argument("--local_rank", type=int, default=0, help=argparse.SUPPRESS)  # the deepspeed launcher's
    arguments = parser.parse_args()

    def work(queue: LearnerQueue, service: Service, config: Config) -> None:
        take_gpus(config)
        folder, failure = arguments.runs_dir / arguments.run, None
        with ExitStack() as holding:
            try:
                check_model(config, "train")
                for path in config.references:
                    check_reference(config, path)
                if os.environ.get("RANK", "0") == "0":
                    take(folder, queue, config, holding)
            except (LeewayError, OSError) as error:  # the other ranks wait for this one, and are told below
                if "RANK" not in os.environ:
                    raise
                failure = error
            refuse_blind_torch(config)
            with large_import():
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
