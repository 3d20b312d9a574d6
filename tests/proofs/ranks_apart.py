"""Learner ranks that do not share a disk: refused before anything is begun, and nothing of the run is lost.

::

    python tests/proofs/ranks_apart.py [--out FOLDER]

A run of two ranks at max_staleness 0 is left alone. Another one of the same seed is tried with a runs folder for each
rank, started with one that both share, killed, tried with a copy of that folder for rank 1, and started again with the
shared one, after a byte of rank 1's part of the newest checkpoint has been changed.

Must hold: both tries are refused, each rank by its name, before a line is written into the ledger; the damaged
checkpoint is passed over for the one before; the audit passes, and the last weights are those of the run left alone,
bit for bit. Exit code 1 otherwise.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from leeway_rl.benchmarks.measure import parser_of
from leeway_rl.common.config import compose, dump
from leeway_rl.common.ledger import published_checksum
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.queue.desk import DeskQueue
from leeway_rl.leeway.proving.audit import audit
from leeway_rl.leeway.running.server import EmbeddedServer

SETTINGS = [
    *("train.ranks=2", "train.zero_stage=1", "train.steps=8", "train.checkpoint_every=2", "train.keep_checkpoints=9"),
    *("train.groups_per_step=4", "train.group_size=4", "flow.max_staleness=0", "broker.lease_s=5"),
]
KILLED_AT, NOT_YET = 4, 6
"""The steps of the checkpoint at which it is killed, and of the next one."""
WAITING = "RANKS_APART_WAITING"
"""A variable of the environment: however fast the ranks are, they wait to be killed before the checkpoint ``NOT_YET``
counts."""
APART = "runs folder that all of them share"
"""Part of the message that an operator gets."""
LIFE_S = 300.0
RANK = "--rank-of"


def as_rank(words: list[str]) -> int:
    """In a process of torchrun: the learner's command, with this rank's number for {rank}."""
    sys.argv = ["learner", *(word.replace("{rank}", os.environ["RANK"]) for word in words)]
    if WAITING in os.environ:
        sys.addaudithook(wait)
    from leeway_rl.learner.__main__ import main as learner

    return learner()


def wait(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook that ends no checkpoint ``NOT_YET``."""
    if event == "os.rename" and f"step-{NOT_YET:06d}" in str(arguments[0]):
        time.sleep(LIFE_S)


@contextmanager
def learner(url: str, run: str, runs: str, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Two ranks; {rank} in ``runs`` is each one's number. They do not outlive the context."""
    launcher = ["-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    words = [__file__, RANK, "--run", run, "--redis-url", url, "--runs-dir", runs]
    with log.open("ab") as file:
        own = _environment() | variables
        process = subprocess.Popen([sys.executable, *launcher, *words], stdout=file, stderr=file, env=own)
        try:
            yield process
        finally:
            _kill(process)


@contextmanager
def workers(url: str, run: str, log: Path) -> Iterator[None]:
    """One rollout worker and one verifier."""
    with log.open("ab") as file, ExitStack() as stack:
        for role in ("rollout", "verifier"):
            words = ["-P", "-m", f"leeway_rl.{role}", "--run", run, "--redis-url", url]
            process = subprocess.Popen([sys.executable, *words], stdout=file, stderr=file, env=_environment())
            stack.callback(_kill, process)
        yield


def ended(url: str, run: str, runs: str, log: Path) -> tuple[int, str]:
    """Exit code of two ranks left to themselves, and what they said."""
    before = log.stat().st_size if log.exists() else 0
    with learner(url, run, runs, log) as process:
        code = process.wait(LIFE_S)
    return code, log.read_bytes()[before:].decode()


def killed(url: str, run: str, runs: Path, log: Path) -> None:
    """Kill two ranks once they have the checkpoint after ``KILLED_AT`` steps."""
    due, until = runs / run / f"checkpoints/step-{KILLED_AT:06d}", time.monotonic() + LIFE_S
    with learner(url, run, str(runs), log, **{WAITING: "yes"}) as process:
        while not due.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert process.poll() is None, log.read_text()[-3000:]


def lines(folder: Path) -> int:
    """Number of lines in the ledger."""
    path = folder / "ledger.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def last_weights(folder: Path) -> str:
    """The sha256 of the last weights, from the ledger."""
    return published_checksum(folder / "ledger.jsonl")


def damage(checkpoints: Path) -> Path:
    """Change a byte of rank 1's part of the newest checkpoint; the size stays."""
    newest = max(path for path in checkpoints.glob("step-*") if path.name.count(".") == 0)
    (part,) = newest.glob("policy/zero_pp_rank_1_*")
    body = bytearray(part.read_bytes())
    body[len(body) // 2] ^= 1
    part.write_bytes(body)
    return newest


def proof(home: Path) -> bool:
    """Do everything in the order of the module's docstring, and print what was seen."""
    runs, held = home / "runs", {}
    # leeway chaos finds what it kills by a run's name on this machine: ours must be nobody else's.
    alone, struck = f"alone-{os.getpid()}", f"apart-{os.getpid()}"
    with EmbeddedServer(home / "redis") as server:
        for run in (alone, struck):
            queue = DeskQueue(Connection(server.url, run))
            queue.record.store_config(dump(compose(["tiny"], SETTINGS)))
            queue.close()
        with workers(server.url, alone, home / "workers.log"):
            code, said = ended(server.url, alone, str(runs), home / "alone.log")
            assert code == 0, said[-3000:]
        log, hurt = home / "apart.log", runs / struck
        with workers(server.url, struck, home / "workers.log"):
            code, said = ended(server.url, struck, str(home / "node-{rank}"), log)
            begun = sum(lines(home / f"node-{rank}" / struck) for rank in (0, 1))
            held["a runs folder for each rank is refused"] = code != 0 and APART in said and "rank 1 (" in said
            held["nothing was begun there"] = begun == 0
            killed(server.url, struck, runs, log)
            before = lines(hurt)
            shutil.copytree(runs, home / "copy-1")
            (home / "copy-0").symlink_to(runs)
            code, said = ended(server.url, struck, str(home / "copy-{rank}"), log)
            held["a copy for rank 1 is refused"] = code != 0 and APART in said and "rank 1 (" in said
            held["the ledger is as it was"] = lines(hurt) == before
            newest = damage(hurt / "checkpoints")
            code, said = ended(server.url, struck, str(runs), log)
            assert code == 0, said[-3000:]
            held[f"damaged {newest.name} is passed over"] = f"{newest.name} is damaged" in said
    account = audit(hurt / "ledger.jsonl")
    held["the last weights are those of the run left alone"] = last_weights(runs / alone) == last_weights(hurt)
    print("\n".join(f"{'holds' if good else 'DOES NOT HOLD':<15}{what}" for what, good in held.items()))
    print(
        f"{last_weights(runs / alone)}  left alone\n{last_weights(hurt)}  tried apart\n{account.describe()}",
        flush=True,
    )
    return all(held.values())


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LEEWAY_")}
    return kept | {"OMP_NUM_THREADS": "1"}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and what it has started."""
    if process.poll() is None:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for each in family:
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                each.kill()
        process.wait()
        psutil.wait_procs(family[:-1], timeout=10)


def main() -> int:
    """Run the proof in a new folder, or in --out."""
    if sys.argv[1:2] == [RANK]:
        return as_rank(sys.argv[2:])
    parser = parser_of(__doc__, out="where runs, logs and the server's files stay; removed by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        out = (given.out or Path(home)).absolute()
        out.mkdir(parents=True, exist_ok=True)
        return 0 if proof(out) else 1


if __name__ == "__main__":
    sys.exit(main())
