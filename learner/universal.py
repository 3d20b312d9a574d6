"""Converts a checkpoint of another number of ranks or another ZeRO stage into DeepSpeed's own universal checkpoint.

DeepSpeed's converter cuts the optimizer's state into one file per parameter, which any number of ranks can read. It
writes each value twice, which takes 24 bytes per parameter; the converted files are removed once they are loaded.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..common.children import leaving_with_parent
from ..common.errors import DataError
from .ranks import rank, together

_FAMILIES = ({0}, {1, 2}, {3})
"""Sets of ZeRO stages between which DeepSpeed can convert. A checkpoint of ZeRO stage 0 is whole in one file and needs
no conversion."""


def needed(made: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a checkpoint of layout ``made`` (``zero_stage``, ``ranks``, and ``bfloat16`` where it is not
    ``autocast``) has to be converted for ``wanted``."""
    return made != wanted and made["zero_stage"] != 0


def why_not(made: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """A message that says why a checkpoint of layout ``made`` cannot go on as ``wanted``, and what would help; ``None``
    where it can go on."""
    before, now = (layout.get("bfloat16", "autocast") for layout in (made, wanted))
    if before != now:
        return f"it was written with train.bfloat16 = {before!r}, and this learner has {now!r}: go on with {before!r}"
    family = next(each for each in _FAMILIES if made["zero_stage"] in each)
    if wanted["zero_stage"] in family:
        return None
    stages = " or ".join(map(str, sorted(family)))
    return (
        f"it was written under ZeRO {made['zero_stage']} (ranks: {made['ranks']}), and this learner is ZeRO "
        f"{wanted['zero_stage']} (ranks: {wanted['ranks']}). DeepSpeed takes it to any number of ranks, but not to "
        f"another kind of sharding: go on with train.zero_stage = {stages}"
    )


def convert(source: Path, out: Path) -> None:
    """Let DeepSpeed's converter write the folder ``out`` from the checkpoint in ``source``. Collective: rank 0 converts
    and the others wait. Raises ``DataError`` with the converter's last line where it fails."""
    command = [sys.executable, "-P", "-m", "deepspeed.checkpoint.ds_to_universal"]
    command += ["--input_folder", str(source), "--output_folder", str(out), "--inject_missing_state"]
    command += ["--num_extract_workers", "1", "--num_merge_workers", "1"]  # each worker holds a rank's part in memory

    def converted() -> None:
        if rank() != 0:
            return
        done = subprocess.run(
            leaving_with_parent(command),
            env=os.environ | {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
            raise DataError(f"DeepSpeed could not convert {source} for another number of ranks: {last}")

    together(converted)
