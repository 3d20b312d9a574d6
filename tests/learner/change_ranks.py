"""Run under torchrun by ``test_layouts.py``: trains, or goes on, under each ZeRO stage that it is told.

Arguments: model folder, output folder, ``begin``, ``go-on`` or ``sums``, ZeRO stages (``begin``) or FOLDER:STAGE.
``begin`` makes two training steps, saves, and makes a third. The others load what FOLDER has and make the third.
Rank 0 leaves what it had before the third step and after it; under ``sums`` the bit sums after it alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from leeway_rl.learner import checkpoint
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.ranks import together
from odd_policy import odd_config, state_of, trained


def main() -> None:
    torch.set_num_threads(1)
    model_path, out, what = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    for word in sys.argv[4:]:
        source, _, stage = word.rpartition(":")
        policy = Policy(odd_config(model_path, stage))
        folder = out / (f"{source}-to-{stage}" if source else f"zero-{stage}")
        if what == "begin":
            trained(policy, range(2))
            checkpoint.save(policy, folder, 2, {"made by": stage}, keep=1)
        else:
            checkpoint.load(policy, checkpoint.path_of(out / source, 2))
        left = {"before": None if what == "sums" else state_of(policy)}
        trained(policy, range(2, 3))
        left |= {"after": None if what == "sums" else state_of(policy), "sums": policy.sums()}
        if policy.rank == 0:
            folder.mkdir(exist_ok=True)
            torch.save(left, folder / "left.pt")
        together(lambda: None)


if __name__ == "__main__":
    main()
