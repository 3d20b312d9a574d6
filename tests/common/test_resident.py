"""Memory of a process and of those that it has started."""

import subprocess
import sys

import numpy as np
from leeway_rl.common.resident import begin_peak, peak_bytes, resident_bytes

HOLD = "import numpy, sys; held = numpy.ones(40_000_000); print('held', flush=True); sys.stdin.read()"


def test_what_a_child_holds_is_counted():
    before = resident_bytes()
    child = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"held\n"
    assert resident_bytes() - before > 250_000_000
    child.communicate()
    assert resident_bytes() - before < 200_000_000


def test_the_peak_outlasts_what_was_freed_until_it_begins_anew():
    begin_peak()
    before = peak_bytes()
    held = np.ones(40_000_000)
    del held
    assert peak_bytes() - before > 250_000_000
    begin_peak()
    assert peak_bytes() - before < 200_000_000
