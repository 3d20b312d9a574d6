"""Whole runs of the ``tiny`` preset for benchmarks: every role is a process of its own, on a core of its own if wanted.

They are like runs under ``leeway up``, with two differences. The processes are forked from one that has imported what
roles need, so that a run starts at once and many runs take little memory. And nothing is started again: a process that
dies ends the run.
"""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leeway_rl.common.config import Config, compose, dump
from leeway_rl.common.ledger import is_complete
from leeway_rl.common.metrics import read_steps
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.common.queue.learner import LearnerQueue
from leeway_rl.common.queue.rollout import RolloutQueue
from leeway_rl.common.queue.verifier import VerifierQueue
from leeway_rl.common.role import run_role
from leeway_rl.common.service import Service
from leeway_rl.leeway.proving.audit import audit

LEAVE_S = 3.0
"""Seconds that the roles have to leave once the learner has left."""
HEAVY = [
    "torch.utils.tensorboard",
    "transformers.models.auto.tokenization_auto",
    "leeway_rl.learner.train",
    "leeway_rl.rollout.worker",
    "leeway_rl.verifier.worker",
]
"""Modules that are imported once, before the fork."""

USERS = {"learner": LearnerQueue, "rollout": RolloutQueue, "verifier": VerifierQueue}
Work = Callable[[Any, Service, Config], None]
"""The type of what a role's process does."""


def real(role: str, folder: Path) -> Work:
    """The work of a role as its command does it."""
    match role:
        case "learner":
            from leeway_rl.learner.train import learn

            return lambda queue, service, config: learn(queue, service, config, folder)
        case "rollout":
            from leeway_rl.rollout.__main__ import work as rollout

            return rollout
        case _:
            from leeway_rl.verifier.__main__ import work as verifier

            return verifier


def whole_run(
    url: str,
    folder: Path,
    settings: Sequence[str],
    *,
    work_of: Callable[[str, Path], Work] = real,
    cores: Mapping[str, int] | None = None,
    stopping: threading.Event | None = None,
) -> Path:
    """Run ``tiny`` with ``settings`` to its end, as ``folder.name`` in the Redis at ``url``, and audit it; returns
    ``folder``.

    ``work_of`` gives the work of a role, and goes to another process; ``cores``: the core of each role, else any. Once
    ``stopping`` is set, the run is broken off.
    """
    config = compose(["tiny"], list(settings))
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(config))
    queue = DeskQueue(Connection(url, folder.name))
    queue.record.store_config(dump(config))
    queue.close()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    names = ["learner", *["rollout"] * config.rollout.workers, *["verifier"] * config.verifier.workers]
    roles = [
        context.Process(target=_role, args=(name, url, folder, work_of, cores and cores[name]), daemon=True)
        for name in names
    ]
    learner, *workers = roles
    try:
        for role in roles:
            role.start()
        while learner.exitcode is None and all(worker.exitcode in (None, 0) for worker in workers):
            learner.join(0.2)
            if stopping is not None and stopping.is_set():
                break
    finally:
        for role in roles:
            role.terminate()
        deadline = time.monotonic() + LEAVE_S
        for role in roles:
            role.join(max(0.0, deadline - time.monotonic()))
            role.kill()  # an engine may still sleep for a straggler that nobody needs
    if not is_complete(folder):
        logs = [f"{path.name}: {path.read_text()[-2000:]}" for path in folder.glob("*.log")]
        raise RuntimeError("\n".join([f"{folder}: the run did not end well", *logs]))
    audit(folder / "ledger.jsonl")
    return folder


def _role(name: str, url: str, folder: Path, work_of: Callable[[str, Path], Work], core: int | None) -> None:
    os.setsid()  # as under leeway up: the kernel shares the cores out by session
    os.environ["LEEWAY_SUPERVISOR"] = str(os.getppid())  # leave with whoever forked us
    if core is not None:
        os.sched_setaffinity(0, {core})
    log = os.open(folder / f"{name}-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(run_role(name, USERS[name], url, folder.name, work_of(name, folder), wait_s=10.0))


def measured(folder: Path) -> dict[str, float]:
    """What a run was like, under the names and by the rules of ``leeway plan``'s figures: without its last η + 1 steps,
    which issue less; rates and staleness without the first η + 1 too, which find an empty queue."""
    steps = read_steps(folder)
    warm = int(steps[-1]["flow/max_staleness"]) + 1
    lines, kept = steps[:-warm], steps[warm:-warm]
    assert len(kept) > 1, f"{folder}: {len(steps)} steps are too few"

    def total(key: str, of: list[dict[str, Any]] = kept) -> float:
        return float(sum(line.get(key, 0) for line in of))

    def tokens(of: list[dict[str, Any]]) -> float:
        return float(sum(line["response/length_mean"] * line["batch/responses"] for line in of))

    graded = sum(line["generated/length_mean"] * line["generated/groups"] for line in lines)
    arrived = sum(line["throughput/rollout_tokens_per_s"] * line["time/step_s"] for line in lines)
    trained_length = tokens(lines) / total("batch/responses", lines)
    return {
        "steps_per_hour": 3600 * len(kept) / total("time/step_s"),
        "head_mean": total("staleness/head_mean") / len(kept),
        "head_max": max(line["staleness/head_max"] for line in kept),
        "depth_mean": total("flow/pipeline_depth") / len(kept),
        "masked_share": total("overflow/tokens_past_bound") / tokens(kept) * (steps[-1]["flow/overflow"] == "mask"),
        "groups_past_share": total("overflow/groups_past_bound") / total("batch/groups"),
        "tokens_trained_past_bound": total("overflow/tokens_trained_past_bound", lines),
        "expired_share": total("overflow/expired_tokens", lines) / arrived,
        "length_trained_over_generated": trained_length * total("generated/groups", lines) / graded,
    }
