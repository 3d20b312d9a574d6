"""``leeway learner``: the learner, alone or as one rank of ``torchrun``/``deepspeed``. Arguments first, heavy imports
after."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..common.config import Config
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.streams import Bus


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
        learn(bus, service, config, folder)

    return run_role("learner", arguments.redis_url, arguments.run, work, wait_s=arguments.wait_s)


if __name__ == "__main__":
    sys.exit(main())
