"""Real ranks, as ``leeway up`` starts them."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def on_two_ranks(script, *words, timeout_s=240):
    """Run a script of this folder with its arguments on two ranks, to a good end."""
    on_ranks(2, script, *words, timeout_s=timeout_s)


def on_ranks(count, script, *words, timeout_s=240):
    """Run a script of this folder with its arguments on ``count`` ranks, to a good end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    done = subprocess.run(
        [*launcher, str(HERE / script), *map(str, words)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
