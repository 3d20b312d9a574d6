"""The order of the tests where several workers share them: what takes long comes first, so that no worker is left alone
with it at the end, and what needs much memory stays with one worker."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")

SECONDS = {
    "chaos/test_ranks_apart.py": 90,
    "chaos/test_short.py": 190,
    "chaos/test_status.py": 40,
    "data/test_difficulty.py": 30,
    "integration/test_cluster.py": 90,
    "integration/test_compose_commands.py": 30,
    "integration/test_docs.py": 240,
    "integration/test_elastic.py": 30,
    "integration/test_elsewhere.py": 50,
    "integration/test_empty_redis.py": 40,
    "integration/test_end_to_end.py": 60,
    "integration/test_evaluation.py": 200,
    "integration/test_exit_codes.py": 90,
    "integration/test_fewer_ranks.py": 40,
    "integration/test_fork.py": 70,
    "integration/test_full_disk.py": 40,
    "integration/test_gpus.py": 70,
    "integration/test_hours.py": 40,
    "integration/test_mixtures.py": 110,
    "integration/test_one_writer.py": 90,
    "integration/test_own_environment.py": 60,
    "integration/test_own_loss.py": 70,
    "integration/test_own_model.py": 40,
    "integration/test_own_reward.py": 100,
    "integration/test_profile.py": 40,
    "integration/test_run.py": 310,
    "integration/test_slurm_run.py": 50,
    "integration/test_status.py": 80,
    "integration/test_sweep.py": 40,
    "integration/test_trackers.py": 50,
    "integration/test_turns.py": 290,
    "integration/test_vllm_export.py": 70,
    "integration/test_vllm_run.py": 40,
    "integration/test_working_folder.py": 30,
    "learner/test_bfloat16.py": 110,
    "learner/test_layouts.py": 40,
    "learner/test_loading.py": 70,
    "learner/test_watchdog.py": 80,
    "leeway/test_arithmetic.py": 50,
    "rollout/test_vllm_engine.py": 100,
    "rollout/test_vllm_models.py": 80,
    "studies/test_runs_and_pages.py": 60,
    "test_benchmarks.py": 450,
    "test_proofs.py": 50,
    "verifier/test_gym_answer.py": 40,
    "verifier/test_patterns.py": 50,
    "verifier/test_pool.py": 30,
}
"""About how long a file of tests takes beside two others on a machine of two cores, by its path below tests/. What is
not here takes less than half a minute."""


def in_shares(files: dict[str, Sequence[Item]], workers: int, large: Collection[str] = ()) -> list[Item]:
    """The tests of ``files`` in an order whose equal parts, one after the other, begin with about as many of the long
    files' seconds each: pytest-xdist gives each worker such a part to begin with, and whoever is idle then takes from
    the end of another's. A file's tests stay together and in their order. The files that are ``large``, those that need
    much memory, begin one part, so that no two of them run at the same time."""
    heads: list[list[Item]] = [[item for name in files if name in large for item in files[name]]]
    heads += [[] for _ in range(workers - 1)]
    seconds = [sum(SECONDS.get(name, 0) for name in files if name in large), *[0] * (workers - 1)]
    for name in sorted((files.keys() & SECONDS.keys()) - set(large), key=lambda name: (-SECONDS[name], name)):
        least = seconds.index(min(seconds))
        heads[least] += files[name]
        seconds[least] += SECONDS[name]
    placed = SECONDS.keys() | set(large)
    short = iter([item for name, items in files.items() if name not in placed for item in items])
    left, ordered = sum(map(len, files.values())), list[Item]()
    for number, head in enumerate(heads):
        part = left // (workers - number)
        ordered += [*head, *islice(short, max(0, part - len(head)))]
        left -= part
    return [*ordered, *short]
