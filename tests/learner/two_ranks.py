"""Real ranks: processes that meet over gloo, with what torchrun gives each. They are copies of one process that has
imported what a rank needs, because the imports take longer than what a test asks of them. Whole runs of several ranks,
which ``leeway up`` starts by torchrun itself, are in tests/integration."""

import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path

from leeway_rl.leeway.running.server import free_port

HERE = Path(__file__).parent
LONGEST_S = 800
"""A test that is over sooner ends its ranks, too."""
WARM = multiprocessing.get_context("forkserver")
WARM.set_forkserver_preload(["deepspeed", "transformers.models.auto.modeling_auto", "leeway_rl.learner.train"])


def on_two_ranks(script, *words):
    """Run a script of this folder with its arguments on two ranks, to a good end."""
    on_ranks(2, script, *words)


def on_ranks(count, script, *words):
    """Run a script of this folder with its arguments on ``count`` ranks, to a good end."""
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / f"rank-{rank}.log" for rank in range(count)]
        ranks, until = begin(script, words, logs), time.monotonic() + LONGEST_S
        try:
            while left := [rank.sentinel for rank in ranks if rank.exitcode is None]:
                assert wait(left, until - time.monotonic()), f"{script}: not within {LONGEST_S} s"
                codes = [rank.exitcode for rank in ranks]
                assert not any(codes), f"exit codes {codes}\n" + "\n".join(log.read_text()[-3000:] for log in logs)
        finally:
            end(ranks)


def begin(script, words, logs):
    """Start a script of this folder with its arguments on as many ranks as there are ``logs``, for their output."""
    _warm()  # before a port is chosen, for it does not stay free for long
    count = len(logs)
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    ranks = []
    for number, log in enumerate(logs):
        own = {"RANK": number, "LOCAL_RANK": number, "OMP_NUM_THREADS": 1}
        environment = os.environ | {key: str(value) for key, value in (common | own).items()}
        command = [str(HERE / script), *map(str, words)]
        ranks.append(WARM.Process(target=_be_a_rank, args=(command, environment, log)))
        ranks[-1].start()
    return ranks


@cache
def _warm():
    """Wait until the process that is copied has imported all it should."""
    first = WARM.Process(target=int)
    first.start()
    first.join()


def end(ranks):
    """Kill the ranks that are alive."""
    for rank in ranks:
        rank.kill()
        rank.join()


def _be_a_rank(command, environment, log):
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
