"""A run that is under way, started a second time."""

import subprocess
import sys

from ...common.children import leaving_with_parent
from ...common.errors import LeewayError, RunExistsError
from ...common.ledger import is_complete
from .hit import Hit
from .target import Target

TIME_S = 60.0
"""How long a start may take to see that it is the second."""


def second_start(target: Target) -> Hit:
    """Start ``leeway up --resume`` of the run, without an address: if this were not refused, it would start a server of
    its own in the run's folder. Ending this fault raises ``LeewayError`` where the start was not refused; that ends the
    rehearsal."""
    address = target.folder / "redis-url"
    before = address.read_bytes()
    words = ["up", "--run", target.run, "--runs-dir", str(target.folder.parent), "--resume"]
    process = subprocess.Popen(
        leaving_with_parent([sys.executable, "-m", "leeway_rl.leeway.cli", *words]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )

    def end() -> str:
        try:
            said, _ = process.communicate(timeout=TIME_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
        refused = process.returncode == RunExistsError.exit_code and "is at work there" in said
        if address.read_bytes() != before or not (refused or is_complete(target.folder)):
            raise LeewayError(
                f"a second start of run {target.run!r} was not refused: exit code {process.returncode}, and it said\n"
                + said.strip()
            )
        return said.strip().splitlines()[-1] if said.strip() else ""

    return Hit(f"process {process.pid}", 10.0, end)
