"""torchrun, as ``leeway learner`` and ``leeway up`` start it: ``python -m leeway_rl.learner.torchrun`` takes the same
arguments, and ends as the rank ended that failed first. torchrun itself ends with 1 whatever its ranks ended with, so
that nobody who starts it could tell a user's mistake, which another start would meet again, from a rank that died."""

import os
import resource
import signal
import sys
from contextlib import suppress

from ..common.errors import RoleDiedError
from ..common.large_imports import large_import
from ..common.stopping import STOPPED


def main() -> int:
    """Run torchrun, and return the exit code of the rank that failed first; a signal that killed it kills this process
    too. ``STOPPED`` where torchrun itself was told to leave."""
    with large_import():
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.run import main as torchrun

    try:
        torchrun(["--log-dir", os.devnull, *sys.argv[1:]])  # else it leaves a folder of empty ones behind
    except ChildFailedError as error:
        # It looks every tenth of a second. A rank that has ended by then because it lost another was not the first.
        rank, failure = min(
            error.failures.items(), key=lambda each: (each[1].exitcode == RoleDiedError.exit_code, each[1].timestamp)
        )
        print(f"rank {rank} was the first to fail, with exit code {failure.exitcode}", file=sys.stderr, flush=True)
        if failure.exitcode < 0:
            _die_of(-failure.exitcode)
            return 128 - failure.exitcode  # as shells say it: a container's first process cannot kill itself
        return failure.exitcode
    except SignalException:
        return STOPPED
    return 0


def _die_of(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file of this process would replace the rank's own
    with suppress(OSError):  # SIGKILL has no handler to be taken away
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main())
