"""What a long ledger costs to look at, to go on with and to audit, against a short one.

::

    python benchmarks/long_ledger.py [--lines 1000000] [--rounds 7]

It writes two valid ledgers of finished runs with the learner's own writer, one of 1,000 lines and one of ``--lines``:
64 groups of 16 responses a step, η = 1, about every fourth group refunded, one resume. Then it runs ``leeway status``
on each in turns, as a process of its own; counts the bytes that opening each for appending reads; and runs ``leeway
audit`` for its peak memory. Times are seconds of the processor, which other work on the machine lengthens least. Must
hold: status takes at most 1.2 times as long (the least of the rounds), and opening reads no more than a few blocks.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.tail import BLOCK

GROUPS, RESPONSES = 64, 16
MOST_RATIO, MOST_BYTES = 1.2, 8 * BLOCK
COMMAND = [sys.executable, "-P", "-c", "from leeway_rl.leeway.cli import main; main()"]
AUDIT = """
import resource, sys
from pathlib import Path
from leeway_rl.leeway.proving.audit import audit
audit(Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


class Books:
    """A learner that only keeps its ledger."""

    def __init__(self, path: Path, steps: int) -> None:
        self.ledger, self.steps = Ledger(path), steps
        self.version, self.next_ticket, self.incarnation = 0, 0, 1
        self.live: dict[int, int] = {}
        """Live tickets with the version at their issue."""
        self._rng = random.Random(0)
        stages = [{"from_step": 0, "groups_per_step": GROUPS, "group_size": RESPONSES}]
        rules = {"max_staleness": 1, "overflow": "wait", "inject_lag": 0, "stage_change": "finish"}
        self.ledger.write("run", run="r", seed=0, steps=steps, stages=stages, **rules)
        self.ledger.write("started", incarnation=1, version=0)
        self._fill()

    def step(self) -> None:
        """Refund some groups, train the oldest of those that are left."""
        for ticket in list(self.live)[: GROUPS // 2]:
            if self._rng.random() < 0.5:
                self.ledger.write("refunded", ticket=ticket, version=self.version, reason="zero_advantage")
                del self.live[ticket]
        self._fill()
        rule = {"max_staleness": 1, "overflow": "wait"}
        taken = list(self.live)[:GROUPS]
        self.ledger.write("batch", step=self.version, tickets=taken, **rule)
        for ticket in taken:
            self._train(ticket)
        after = self.version + 1
        self.ledger.write("step", step=self.version, version=after, tickets=taken, **rule)
        self.ledger.write("published", version=after, checksum="0" * 64)
        self.version = after
        self._fill()

    def resume(self) -> None:
        """Make a step, and go back behind it."""
        line, version, next_ticket, live = self.ledger.line, self.version, self.next_ticket, dict(self.live)
        self.step()
        self.version, self.next_ticket, self.incarnation = version, next_ticket, self.incarnation + 1
        self.ledger.write("rolled_back", to_line=line)
        self.ledger.write("started", incarnation=self.incarnation, version=version)
        self.live = {}
        for ticket in live:
            self._issue(ticket, reissued=True)

    def close(self) -> None:
        """The run is complete."""
        self.ledger.write("end", version=self.version)
        self.ledger.close()

    def _fill(self) -> None:
        while len(self.live) < GROUPS * min(2, self.steps - self.version):
            self._issue(self.next_ticket, reissued=False)
            self.next_ticket += 1

    def _issue(self, ticket: int, *, reissued: bool) -> None:
        known = {"incarnation": self.incarnation, "version": self.version, "stage": 0, "reissued": reissued}
        self.ledger.write("issued", ticket=ticket, prompt=f"math:{ticket % 40000}", **known)
        self.live[ticket] = self.version

    def _train(self, ticket: int) -> None:
        sampled_by = self.live.pop(ticket)
        lengths = [self._rng.randint(800, 9000) for _ in range(RESPONSES)]
        self.ledger.write(
            "trained",
            ticket=ticket,
            step=self.version,
            spans=[[[sampled_by, 0, length]] for length in lengths],
            verdicts=[self._rng.choice(["correct", "wrong"]) for _ in lengths],
            lengths=lengths,
            head_staleness=self.version - sampled_by,
            past_bound=0,
        )


def written(folder: Path, lines: int) -> Path:
    """A ledger of about so many lines in ``folder``."""
    folder.mkdir(parents=True)
    path = folder / "ledger.jsonl"
    books = Books(path, max(2, lines // 161))  # lines of a step, with its refunds
    for step in range(books.steps):
        if step == books.steps // 2:
            books.resume()
        books.step()
    books.close()
    print(f"{folder.name}: {books.ledger.line:,} lines, {path.stat().st_size / 2**20:.1f} MiB", flush=True)
    return path


def used_s() -> float:
    """Processor seconds of the commands that have ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def seconds(*words: str, cwd: Path) -> float:
    """Processor seconds of a command, which runs as a process of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LEEWAY_")}
    before = used_s()
    subprocess.run([*COMMAND, *words], cwd=cwd, env=environment, stdout=subprocess.DEVNULL, check=True)
    return used_s() - before


def opened(path: Path) -> int:
    """Bytes that are read when the ledger is opened for appending."""

    def read_so_far() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    before = read_so_far()
    Ledger(path).close()
    return read_so_far() - before


def audited(path: Path) -> tuple[float, float]:
    """(processor seconds of an audit, its peak memory in MiB)."""
    before = used_s()
    done = subprocess.run([sys.executable, "-c", AUDIT, path], capture_output=True, text=True, check=True)
    return used_s() - before, float(done.stdout)


def main() -> int:
    """Measure and print; returns 1 where a figure does not hold."""
    parser = parser_of(__doc__, rounds=7)
    parser.add_argument("--lines", type=int, default=1_000_000)
    given = parser.parse_args()
    print(load_of_this_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = {"short": 1_000, "long": given.lines}
        paths = {run: written(folder / "runs" / run, lines) for run, lines in runs.items()}
        ways = {run: lambda _, run=run: seconds("status", "--run", run, cwd=folder) for run in paths}
        rounds = list(in_turns(given.rounds, ways))
        table = Table(":<19", "short:10.2f", "long:10.2f", "ratio:6.2f")
        least_s = {run: min(each[run] for each in rounds) for run in paths}
        ratio = least_s["long"] / least_s["short"]
        table.line("status, s", *least_s.values(), ratio)
        read = {run: opened(path) for run, path in paths.items()}
        table.line("opening, bytes read", *(f"{count:,}" for count in read.values()))
        audits = [audited(path) for path in paths.values()]
        for what, numbers in zip(("audit, s", "audit, MiB at most"), zip(*audits, strict=True), strict=True):
            table.line(what, *numbers)
    return int(ratio > MOST_RATIO or max(read.values()) > MOST_BYTES)


if __name__ == "__main__":
    sys.exit(main())
