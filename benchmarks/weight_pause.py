"""How long does rollout stand still for a new version? ``tiny`` under real vLLM, weights taken in flight.

::

    python benchmarks/weight_pause.py [--steps 12] [--set KEY=VALUE …]

There is one run of ``leeway up`` for each ``rollout.kv_on_update``. The pause is what the engine itself measures
(``weights/paused_s`` in ``workers.jsonl``): seconds in which no token could be sampled, for every version but the
first, before which there is nothing to pause. Everything shares the machine's cores.

Must hold: a pause of at most 0.3 s, in the median and at most.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from leeway_rl.benchmarks.measure import Table, load_of_this_machine, parser_of
from leeway_rl.common.config import Rollout

MOST_S = 0.3


def pauses(folder: Path, run: str) -> np.ndarray:
    """Seconds of pause for every loaded version after the first, float64 [n]."""
    lines = [json.loads(line) for line in (folder / "runs" / run / "workers.jsonl").read_text().splitlines()]
    return np.array([line["weights/paused_s"] for line in lines if "weights/paused_s" in line][1:])


def main() -> None:
    """Print one line for each mode; exit with 1 if a pause is too long."""
    given = parser_of(__doc__, steps=12, settings=True).parse_args()
    print(load_of_this_machine())
    table = Table("kv_on_update", "pauses:d", "median s:.3f", "longest s:.3f")
    held = True
    for mode in get_args(Rollout.model_fields["kv_on_update"].annotation):
        settings = ["rollout.engine=vllm", f"rollout.kv_on_update={mode}", f"train.steps={given.steps}", *given.set]
        words = ["up", "--preset", "tiny", "--run", mode, *(word for pair in settings for word in ("--set", pair))]
        command = [sys.executable, "-c", "from leeway_rl.leeway.cli import main; main()", *words]
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(done.stdout + done.stderr)
            found = pauses(Path(folder), mode)
        held &= bool(found.max() <= MOST_S)
        table.line(mode, len(found), np.median(found), found.max())
    print(f"must hold: at most {MOST_S} s")
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
