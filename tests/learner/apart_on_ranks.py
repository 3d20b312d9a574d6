"""Run under torchrun on two ranks by ``test_apart.py``: what a rank does with a disk, or a disk's contents, of its own.

Arguments: model folder, another model of the same shape, output folder. Each case leaves what each rank was told in
``CASE-RANK.json``: the name of the error, or "none", and its text.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from leeway_rl.common.files import checksum
from leeway_rl.learner import alike, checkpoint, ranks
from leeway_rl.learner.policy import Policy
from odd_policy import odd_config, state_of, trained

MODEL, OTHER, OUT = sys.argv[1], sys.argv[2], Path(sys.argv[3])
CASES: list[Callable[[Policy, Path], object]] = []


def case(work: Callable[[Policy, Path], object]) -> Callable[[Policy, Path], object]:
    CASES.append(work)
    return work


def fresh() -> Policy:
    return Policy(odd_config(MODEL, 1))


def saved(policy: Policy, folder: Path, *steps: int) -> None:
    for step in steps:
        trained(policy, range(step - 1, step))
        checkpoint.save(policy, folder, step, {"step": step}, keep=9)


def by_rank_0(work: Callable[[], object]) -> None:
    ranks.together(lambda: work() if ranks.rank() == 0 else None)


@case
def folders_apart_at_save(policy: Policy, home: Path) -> None:
    checkpoint.save(policy, home / f"node-{policy.rank}", 1, {}, keep=1)


@case
def part_not_seen_at_save(policy: Policy, home: Path) -> None:
    """Each node has a folder of the right name: what rank 1 writes is never seen by rank 0."""
    folder = home / f"node-{policy.rank}"
    if policy.rank:
        (folder / "step-000001.unfinished").mkdir(parents=True)
    checkpoint.save(policy, folder, 1, {}, keep=1)


@case
def folders_apart_at_load(policy: Policy, home: Path) -> None:
    saved(policy, home / "runs", 1)
    (home / "node-1").mkdir(exist_ok=True)
    checkpoint.restore(fresh(), home / ("node-1" if policy.rank else "runs"), lambda _: None)


@case
def another_checkpoint_on_one_node(policy: Policy, home: Path) -> None:
    """Folders of their own in which a checkpoint of the same name, whole, is of another run."""
    saved(policy, home / "node-0", 1)
    saved(policy, home / "other", 2)
    by_rank_0(lambda: shutil.copytree(home / "other/step-000002", home / "node-1/step-000001"))
    checkpoint.restore(fresh(), home / f"node-{policy.rank}", lambda _: None)


@case
def damaged_bytes(policy: Policy, home: Path) -> None:
    """Right size, one byte wrong, in the part of rank 1: the checkpoint before is taken, by both."""
    saved(policy, home, 1)
    expected = state_of(policy)
    saved(policy, home, 2)

    def damage() -> None:
        (part,) = (home / "step-000002/policy").glob("zero_pp_rank_1_*")
        body = bytearray(part.read_bytes())
        body[len(body) // 2] ^= 1
        part.write_bytes(body)

    by_rank_0(damage)
    restored = fresh()
    path, state = checkpoint.restore(restored, home, lambda _: None)
    assert path == home / "step-000001"
    assert state == {"step": 1}
    weights = restored.named_weights()
    assert all(torch.equal(weights[name], expected["weights"][name]) for name in weights)


@case
def part_of_another_step(policy: Policy, home: Path) -> None:
    """A list that vouches for a part of the step before: what was loaded does not add up to what was saved."""
    saved(policy, home, 1, 2)

    def swap() -> None:
        (part,) = (home / "step-000001/policy").glob("zero_pp_rank_1_*")
        target = home / "step-000002/policy" / part.name
        shutil.copyfile(part, target)
        made = json.loads((home / "step-000002" / checkpoint.COMPLETE).read_text())
        made["files"][f"policy/{part.name}"] = target.stat().st_size
        made["sha256"][f"policy/{part.name}"] = checksum(target)
        (home / "step-000002" / checkpoint.COMPLETE).write_text(json.dumps(made))

    by_rank_0(swap)
    checkpoint.restore(fresh(), home, lambda _: None)


@case
def write_fails_on_one_rank(policy: Policy, home: Path) -> None:
    """No file of rank 1 may grow past 4 KB: the error is the disk's own, and rank 0 hears of it."""
    saved(policy, home, 1)
    with_small_files(policy, lambda: checkpoint.save(policy, home, 2, {}, keep=9))


@case
def no_room_on_one_rank(policy: Policy, home: Path) -> None:
    """The same where the disk is full by what counts as full: every rank is told, and the next try is whole."""
    threshold = checkpoint.FULL_BYTES
    checkpoint.FULL_BYTES = 1 << 62
    try:
        with_small_files(policy, lambda: checkpoint.save(policy, home, 1, {}, keep=9))
    finally:
        checkpoint.FULL_BYTES = threshold
        checkpoint.save(policy, home, 1, {}, keep=9)


def with_small_files(policy: Policy, work: Callable[[], object]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if policy.rank == 1:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        work()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@case
def model_missing_on_one_rank(policy: Policy, home: Path) -> None:
    Policy(odd_config(str(home / "none") if policy.rank else MODEL, 1))


@case
def other_weights_on_one_rank(policy: Policy, home: Path) -> None:
    Policy(odd_config(OTHER if policy.rank else MODEL, 1))


@case
def equal_copies_of_the_model(policy: Policy, home: Path) -> None:
    """Each node has a copy of its own."""
    copy = home / f"node-{policy.rank}/model"
    shutil.copytree(MODEL, copy, dirs_exist_ok=True)
    weights = Policy(odd_config(str(copy), 3)).named_weights()
    due = policy.named_weights()
    assert all(torch.equal(weights[name], due[name]) for name in due)


@case
def other_model_files_on_one_rank(policy: Policy, home: Path) -> None:
    """Seen before any model is loaded: same names, same sizes."""
    shutil.copytree(OTHER if policy.rank else MODEL, home / f"node-{policy.rank}/model", dirs_exist_ok=True)
    config = odd_config(f"~/node-{policy.rank}/model", 1)
    shown = config.model_copy(update={"model": config.model.model_copy(update={"path": "~/model"})})
    import os

    os.environ["HOME"] = str(home / f"node-{policy.rank}")
    alike.refuse_different(shown, home)


@case
def other_configuration_on_one_rank(policy: Policy, home: Path) -> None:
    alike.refuse_different(odd_config(MODEL, 1, train__learning_rate=1e-3 * (1 + policy.rank)), home)


@case
def all_the_same(policy: Policy, home: Path) -> None:
    alike.refuse_different(odd_config(MODEL, 1), home)
    saved(policy, home, 1)
    restored = fresh()
    checkpoint.restore(restored, home, lambda _: None)
    before = restored.sums()
    assert before == policy.sums()


def main() -> None:
    torch.set_num_threads(1)
    checkpoint.SEEN_S = alike.SHARED_S = 1.0
    policy = fresh()
    for work in CASES:
        home = OUT / work.__name__
        home.mkdir(exist_ok=True)
        policy = fresh()
        told = ["none", ""]
        try:
            work(policy, home)
        except Exception as error:
            told = [type(error).__name__, str(error)]
        (OUT / f"{work.__name__}-{ranks.rank()}.json").write_text(json.dumps(told))
        dist.barrier()  # no case leaves a rank in a collective that the other is not in


if __name__ == "__main__":
    main()
