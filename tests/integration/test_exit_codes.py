"""Whatever is asked to stop before it is done ends with 130, by whichever signal: the table in
docs/reference/exit-codes.md."""

import json
import os
import signal
import subprocess
import sys

import pytest
from leeway_rl.common.queue.connection import Connection

from tests.integration.running import SMALL, command, leeway, metrics, start
from tests.roles import Roles

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SIGNALS = [signal.SIGTERM, signal.SIGINT]


def ended(process):
    """Its code, and that it shows no trace."""
    said, _ = process.communicate(timeout=600)
    assert "Traceback" not in said, said
    return process.returncode, said


@pytest.mark.parametrize("signum", SIGNALS)
def test_roles_that_are_asked_to_stop_end_with_130_and_a_finished_run_with_0(signum, tmp_path, redis_url, wait_until):
    run = f"asked-{signum.name}-{os.getpid()}"
    at = ["--run", run, "--redis-url", redis_url]
    folder = tmp_path / "runs" / run
    steps, bus = ["--set", "train.steps=24"], Roles(Connection(redis_url, run))
    roles = [start("learner", *at, *SMALL, *steps, cwd=tmp_path), *workers(at, tmp_path)]
    try:
        wait_until(lambda: len(metrics(folder)) >= 1, "the first step", 300)
        bus.desk.set_control("paused", "1")  # it cannot be through before it is asked
        assert leeway("runs", cwd=tmp_path).stdout.splitlines()[1].split()[:2] == [run, "running"]
        for role in roles[1:]:
            role.send_signal(signum)
        assert [ended(role)[0] for role in roles[1:]] == [130, 130]
        roles[0].send_signal(signum)
        assert ended(roles[0])[0] == 130
        assert len(metrics(folder)) < 24
        audited, made = leeway("audit", run, cwd=tmp_path), len(metrics(folder))
        assert audited.stdout.startswith(f"run {run} is stopped at step {made} of 24: "), audited.stdout
        assert (audited.returncode, "audit passed for what is there" in audited.stdout) == (6, True)
        assert leeway("runs", cwd=tmp_path).stdout.splitlines()[1].split()[:3] == [run, "stopped", f"{made}/24"]
        bus.desk.set_control("paused", "0")
        roles = [start("learner", *at, cwd=tmp_path), *workers(at, tmp_path)]
        assert [ended(role)[0] for role in roles] == [0, 0, 0]
    finally:
        for role in roles:
            role.kill()
            role.wait()
        bus.close()
    assert len(metrics(folder)) == 24


def workers(at, folder):
    return [start(role, *at, cwd=folder) for role in ("rollout", "verifier")]


WAITS = "waiting for the run to be created"


@pytest.mark.parametrize("signum", SIGNALS)
@pytest.mark.parametrize(
    ("words", "at_work"),
    [
        ("rollout nobodys-run --redis-url URL", lambda folder, said: WAITS in said),
        ("verifier nobodys-run --redis-url URL", lambda folder, said: WAITS in said),
        ("learner nobodys-run --redis-url URL", lambda folder, said: WAITS in said),
        ("study updates --steps 100000 --jobs 1", lambda folder, said: any(folder.rglob(".*.csv.tmp"))),
        ("verify in.jsonl --out out.jsonl --jobs 1", lambda folder, said: (folder / "out.jsonl").exists()),
    ],
)
def test_commands_that_are_interrupted_end_with_130(words, at_work, signum, tmp_path, redis_url, wait_until):
    hard = {"id": 0, "response": r"\boxed{9^{9^{9^9}}}", "answer": "5"}
    (tmp_path / "in.jsonl").write_text(json.dumps(hard) + "\n")
    log, line = tmp_path / "log", command(*words.replace("URL", redis_url).split())
    with log.open("w") as output, subprocess.Popen(line, stdout=output, stderr=output, cwd=tmp_path) as process:
        try:
            wait_until(lambda: at_work(tmp_path, log.read_text()), "it is at work", 300)
            process.send_signal(signum)
            assert process.wait(200) == 130, log.read_text()
        finally:
            process.kill()


SLOW = """
import sys, time
from leeway_rl.leeway import cli
@cli.app.command()
def slow() -> None:
    print("at work", flush=True)
    time.sleep(60)
sys.argv = ["leeway", "slow"]
cli.main()
"""


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_command_of_the_desk_ends_so_whatever_it_does(signum, tmp_path):
    words = [sys.executable, "-c", SLOW]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signum)
        assert ended(process)[0] == 130


def test_a_study_that_there_is_not_is_a_mistake_in_the_data(tmp_path):
    done = leeway("study", "nothing", cwd=tmp_path)
    assert (done.returncode, done.stderr.startswith("leeway study: there is no study 'nothing'")) == (3, True)
