"""Memory of a process and of those that it has started. In a process of its own, because the memory of the tests'
process and of its children is also that of other tests."""

import json
import subprocess
import sys

COUNTED = """
import json, subprocess, sys
import numpy as np
from leeway_rl.common.resident import begin_peak, peak_bytes, resident_bytes

hold = "import numpy, sys; held = numpy.ones(40_000_000); print('held', flush=True); sys.stdin.read()"
before = resident_bytes()
child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert child.stdout.readline() == b"held\\n"
with_child = resident_bytes() - before
child.communicate()
without = resident_bytes() - before

begin_peak()
before = peak_bytes()
held = np.ones(40_000_000)
del held
freed = peak_bytes() - before
begin_peak()
print(json.dumps([with_child, without, freed, peak_bytes() - before]))
"""


def test_what_a_child_holds_is_counted_and_the_peak_outlasts_what_was_freed_until_it_begins_anew():
    done = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with_child, without, freed, anew = json.loads(done.stdout)
    assert with_child > 250_000_000
    assert without < 200_000_000
    assert freed > 250_000_000
    assert anew < 200_000_000
