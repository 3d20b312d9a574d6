"""``python -m leeway_rl.leeway.tracking TRACKER FOLDER``: feeds one tracker. `leeway up` and `leeway track` start it,
start it again when it dies, and go on without it when that does not help."""

import argparse
import os
import signal
import sys
import warnings
from pathlib import Path

from ...common.children import leave_with_parent
from ...common.errors import told
from ..running.trackers import TRACKERS

parser = argparse.ArgumentParser(prog="leeway tracking", description=__doc__)
parser.add_argument("tracker", choices=TRACKERS)
parser.add_argument("folder", type=Path, help="the run's folder")
parser.add_argument("--project", required=True, help="project, or MLflow's experiment")
parser.add_argument("--wait", action="store_true", help="follow the run although nobody here is at work in its folder")


def main() -> int:
    """Returns the exit code."""
    from .following import follow

    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # the trackers' own, of their own dependencies
    return follow(asked.tracker, asked.folder, asked.project, wait=asked.wait)


if __name__ == "__main__":
    if "LEEWAY_SUPERVISOR" in os.environ:
        leave_with_parent()
        if os.getppid() != int(os.environ["LEEWAY_SUPERVISOR"]):
            sys.exit(1)
    ended = told("leeway track", main)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # an interpreter that winds down has no handler of ours any more
    sys.exit(ended)
