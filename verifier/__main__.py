"""``leeway verifier``: one verifier worker and its grading processes. Arguments are parsed before heavy imports."""

import sys
from contextlib import nullcontext

from ..common.config import Config, expand
from ..common.preflight.tokens import hide_torch
from ..common.queue.verifier import VerifierQueue
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.stopping import stoppable


def work(queue: VerifierQueue, service: Service, config: Config) -> None:
    """Grade until the run is over."""
    from ..common.preflight.tokens import load_tokenizer
    from ..common.prompts import decoder_of
    from .pool import GraderPool
    from .rewards.grading import RewardGrader
    from .worker import VerifierWorker

    tokenizer = load_tokenizer(expand(config.model.path))
    settings = config.verifier
    attempts = config.broker.max_attempts
    pool = GraderPool(settings.jobs, timeout_s=settings.timeout_s, settings=settings, attempts=attempts)
    with pool, RewardGrader(config, pool) if config.rewards else nullcontext() as rewards:
        VerifierWorker(queue, service, pool, decoder_of(tokenizer), config, rewards).run()


def main() -> int:
    """Parse the arguments and run."""
    arguments = role_parser("verifier", __doc__).parse_args()
    return run_role("verifier", VerifierQueue, arguments.redis_url, arguments.run, work, wait_s=arguments.wait_s)


if __name__ == "__main__":
    hide_torch()  # What needs torch to grade is a process of its own.
    sys.exit(stoppable(main))
