"""Grades many mixed jobs and looks for what they left: processes, descriptors, mounts, temporary files, memory.

    python tests/proofs/code_leaks.py --jobs 20000 --seats 2

Mathematics and code, honest and hostile, go through one pool. This prints one JSON line, and exits with 1 where
anything is left.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from leeway_rl.benchmarks.measure import parser_of
from leeway_rl.common.config import Verifier
from leeway_rl.verifier.pool import GradeItem, GraderPool

MIB = 1 << 20


def _code(source: str, **tests: object) -> GradeItem:
    return GradeItem(ability="code", response=f"```python\n{source}\n```", golds=(json.dumps(tests),), finished=True)


def _math(answer: str, gold: str) -> GradeItem:
    return GradeItem(ability="math", response=rf"\boxed{{{answer}}}", golds=(gold,), finished=True)


SUM = {"inputs": ["1 2", "3 4"], "outputs": ["3", "7"]}
CALL = {"fn_name": "f", "inputs": ["3", "4"], "outputs": ["9", "16"]}
CHECK = {"test_code": "def check(candidate):\n    assert candidate(3) == 9", "entry_point": "f"}
HONEST = [
    _code("print(sum(map(int, input().split())))", **SUM),
    _code("print(sum(map(int, input().split())))", **SUM),
    _code("print(0)", **SUM),
    _code("import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))", **SUM),
    _code("def f(x): return x * x", **CALL),
    _code("class Solution:\n    def f(self, x): return x + x", **CALL),
    _code("def f(x): return x * x", **CHECK),
    _code("print(", **SUM),
    _code("with open('file', 'w') as f: f.write('x')\nprint(sum(map(int, input().split())))", **SUM),
    _math("5", "5"),
    _math(r"\frac{10}{2}", "5"),
    _math("x + 1", "1 + x"),
]
HOSTILE = [
    _code("import os\nos._exit(0)", **SUM),
    _code("import os\nwhile os.fork(): pass\nimport time\ntime.sleep(9)", **SUM, time_limit_s=0.2),
    _code("while True: pass", **SUM, time_limit_s=0.2),
    _code("import ctypes\nctypes.string_at(0)", **SUM),
    _code("import os\nif os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(9)\nprint(1)", **SUM),
    _code("x = []\nwhile True: x.append(bytearray(1 << 20))", **SUM, memory_bytes=200 * MIB),
    _code("import os\nfor _ in range(1500):\n    os.mkdir('d')\n    os.chdir('d')", **SUM),
]
HOSTILE_EVERY = 50
"""One job in so many is hostile. Some of those take all of their time limit."""


def items(count: int) -> list[GradeItem]:
    """``count`` jobs, the same at every call."""
    return [
        HOSTILE[n // HOSTILE_EVERY % len(HOSTILE)]
        if n % HOSTILE_EVERY == HOSTILE_EVERY - 1
        else HONEST[n % len(HONEST)]
        for n in range(count)
    ]


def count_things() -> dict[str, int]:
    """The counts that a leak would raise in this process and in its temporary folder."""
    gc.collect()
    temporary = tempfile.gettempdir()
    return {
        "processes": len(_descendants(os.getpid())),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mounts": Path("/proc/self/mountinfo").read_text().count(f" {temporary}"),
        "temporary_files": len(os.listdir(temporary)),
    }


def resident_bytes(pids: list[int]) -> int:
    """Resident memory of these processes."""
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:
            continue
    return total


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with suppress(OSError):  # a thread that has just ended
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    for child in found[:]:
        with suppress(OSError):
            found += _descendants(child)
    return found


def graded(jobs: int, seats: int) -> dict[str, object]:
    """Grade ``jobs`` items with a pool of ``seats``; compare before and after, and memory early and late."""
    before, started = count_things(), time.monotonic()
    batches, memory, wrong = 20, [], 0
    given, size = items(jobs), jobs // batches
    with GraderPool(seats, settings=Verifier(jobs=seats)) as pool:
        for first in range(0, batches * size, size):
            verdicts = pool.grade(given[first : first + size])
            wrong += sum(verdict.kind == "error" for verdict in verdicts)
            memory.append(resident_bytes([os.getpid(), *_descendants(os.getpid())]))
    after = count_things()
    return {
        "jobs": batches * size,
        "hostile": sum(each in HOSTILE for each in given[: batches * size]),
        "seconds": round(time.monotonic() - started, 1),
        "errors": wrong,
        "left": {name: after[name] - before[name] for name in before},
        "resident_mib": [round(value / MIB) for value in memory],
    }


def main() -> int:
    """Parse the arguments, measure, print."""
    parser = parser_of(__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seats", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:  # others write into the machine's own, too
        tempfile.tempdir = os.environ["TMPDIR"] = temporary
        found = graded(given.jobs, given.seats)
    print(json.dumps(found))
    left: dict[str, int] = found["left"]  # type: ignore[assignment]
    return int(any(value > 0 for value in left.values()) or bool(found["errors"]))


if __name__ == "__main__":
    sys.exit(main())
