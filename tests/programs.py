"""Programs of ``benchmarks/`` and ``tests/proofs/`` run by tests, and numbers read from what they print."""

import os
import re
import subprocess
import sys


def said_by(program, options, *more, codes=(0,)):
    """What a program prints, in a process of its own: they set torch's threads. Code 1: a figure was missed."""
    # DeepSpeed, in this process, has put the tests' own ranks into the environment.
    environment = {key: value for key, value in os.environ.items() if "RANK" not in key and key != "WORLD_SIZE"}
    command = [sys.executable, str(program), *options.split(), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)
    broken = done.returncode != 0 and "Traceback" in done.stderr  # its code is 1, too
    assert not broken, done.stderr[-3000:]
    assert done.returncode in codes, done.stderr[-3000:]
    return done.stdout


def number(pattern, said):
    """The group of ``pattern``, which stands in some line of ``said``."""
    return float(re.search(pattern, said, re.MULTILINE).group(1))


def rows(said, first, numbers):
    """The lines that begin with ``first``: of each the last ``numbers`` words, as numbers."""
    lines = [line.split() for line in said.splitlines() if re.match(first, line.strip())]
    return [[float(word.strip("%s")) for word in line[-numbers:]] for line in lines]
