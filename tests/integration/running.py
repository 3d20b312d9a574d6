"""Start the real command line and look at what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
from leeway_rl.common.ledger import published_checksum
from leeway_rl.common.queue.connection import Connection
from leeway_rl.common.tail import whole_lines

from tests.roles import Roles

STARTED: list[subprocess.Popen[str]] = []
SMALL = [
    "--preset",
    "tiny",
    "--set",
    "train.steps=6",
    "--set",
    "train.groups_per_step=4",
    "--set",
    "train.group_size=4",
]


def command(*words: str) -> list[str]:
    """``leeway …`` as the console script runs it."""
    return [sys.executable, "-P", "-c", "from leeway_rl.leeway.cli import main; main()", *words]


def leeway(*words: str, cwd: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        command(*words), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False, env=environment()
    )


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Run in the background, at most until the test is over."""
    started = subprocess.Popen(
        command(*words), cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    STARTED.append(started)
    return started


def end_started() -> None:
    """End what a test that has failed left under way: it would take the machine from the next one, and be held against
    whichever is under way when it is collected as garbage."""
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def environment() -> dict[str, str]:
    """As for a user who has set nothing."""
    return {key: value for key, value in os.environ.items() if not key.startswith("LEEWAY_")}


def metrics(folder: Path) -> list[dict]:
    """The training steps so far. A last line without its end is still being written, and is none yet."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    with path.open("rb") as file:
        return [json.loads(line) for line in whole_lines(file)]


def last_checksum(folder: Path) -> str:
    """sha256 of the last published weights, from the ledger."""
    return published_checksum(folder / "ledger.jsonl")


def role_pids(run: str, role: str, cwd: Path) -> list[int]:
    """Processes of a run's role that were started in ``cwd``: other tests have runs of the same name. What a process is
    about to start has its command line for a moment, and is left out."""
    found = {}
    for process in psutil.process_iter(["pid", "ppid", "cmdline", "cwd"]):
        words = process.info["cmdline"] or []
        if f"leeway_rl.{role}" in words and run in words and process.info["cwd"] == str(cwd):
            found[process.info["pid"]] = words, process.info["ppid"]
    return [pid for pid, (words, parent) in found.items() if words != found.get(parent, ([],))[0]]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@contextmanager
def paused(folder: Path) -> Iterator[Roles]:
    """Let a run under ``leeway up`` finish no more than is under way: commands take their time to start, and a run of a
    few steps would be through before they are asked."""
    with pause(folder) as bus:
        yield bus
        bus.desk.set_control("paused", "0")


@contextmanager
def pause(folder: Path) -> Iterator[Roles]:
    """The same, and the run stays as it is: somebody else lets it go on."""
    with closing(Roles(Connection((folder / "redis-url").read_text().strip(), folder.name, retry_s=0.0))) as bus:
        bus.desk.set_control("paused", "1")
        yield bus


def has_begun(bus: Roles) -> bool:
    """Whether the learner of a run has loaded its model, and waits for groups or trains. A run that was paused before
    stands there without a step made, for as long as it is paused."""
    return bus.state().get("phase") == "training"


@contextmanager
def lingering(running: subprocess.Popen[str]) -> Iterator[None]:
    """Let the server of a run under ``leeway up`` outlive its roles, for whoever reads late: who would end it is
    stopped meanwhile."""
    running.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        running.send_signal(signal.SIGCONT)
