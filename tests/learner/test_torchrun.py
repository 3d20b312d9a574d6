"""Under our torchrun a rank's own end is that of the whole."""

import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
from leeway_rl.common.errors import DataError, RoleDiedError
from leeway_rl.common.stopping import STOPPED
from leeway_rl.learner.__main__ import only_learner
from leeway_rl.leeway.running.last_words import cause

RANK = """
import os, signal, sys, time
sys.stderr.write("leeway learner: no such model folder\\n")  # at once, as a role does: two ranks may write together
if os.environ["RANK"] == "1":
    time.sleep(600)  # torchrun ends it
{end}
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def under_torchrun(folder, end):
    (folder / "rank.py").write_text(RANK.format(end=end))
    words = ["--standalone", "--nproc-per-node", "2", "rank.py"]
    command = [sys.executable, "-m", "leeway_rl.learner.torchrun", *words]
    (folder / "tmp").mkdir()
    variables = {**os.environ, "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen(command, cwd=folder, env=variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("end", "code"), [("sys.exit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", -9)])
def test_the_rank_that_failed_first_says_how_it_ends(tmp_path, end, code):
    process = under_torchrun(tmp_path, end)
    said = process.communicate()[1]
    assert process.returncode == code
    assert "rank 0 was the first to fail" in said
    assert "Traceback" not in said
    assert list((tmp_path / "tmp").iterdir()) == [], "it leaves nothing behind"
    if code > 0:
        assert cause(code, said) == "it ended with code 3: no such model folder"


def test_one_that_is_told_to_leave_ends_as_a_stopped_role_does(tmp_path):
    process = under_torchrun(tmp_path, "time.sleep(600)")
    assert "no such model folder" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == STOPPED


def test_a_learner_that_is_started_again_waits_for_the_ranks_of_a_killed_torchrun(tmp_path, monkeypatch):
    monkeypatch.delenv("LEEWAY_SUPERVISOR", raising=False)
    with ExitStack() as before:
        before.enter_context(only_learner(tmp_path, 600.0))
        with pytest.raises(DataError, match="another learner trains this run"), only_learner(tmp_path, 600.0):
            pass  # by hand it is told at once
        monkeypatch.setenv("LEEWAY_SUPERVISOR", str(os.getppid()))
        threading.Timer(0.3, before.close).start()
        with only_learner(tmp_path, 600.0):
            pass


def test_a_process_that_cannot_kill_itself_as_its_rank_was_killed_ends_as_shells_say_it(monkeypatch):
    from leeway_rl.learner import torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    def ranks(*_):
        raise ChildFailedError("rank.py", {0: ProcessFailure(0, 4711, -signal.SIGKILL, "no file")})

    monkeypatch.setattr("torch.distributed.run.main", ranks)
    monkeypatch.setattr("os.kill", lambda *_: None)  # as in a container's first process
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    assert torchrun.main() == 137


def test_of_ranks_that_ended_in_the_same_moment_the_one_that_lost_another_was_not_the_first(monkeypatch, capsys):
    """torchrun looks every tenth of a second, and tells times by the second."""
    from leeway_rl.learner import torchrun
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    def ranks(*_):
        codes = {0: RoleDiedError.exit_code, 1: DataError.exit_code, 2: RoleDiedError.exit_code}
        failed = {rank: ProcessFailure(rank, 4711, code, "no file") for rank, code in codes.items()}
        raise ChildFailedError("rank.py", failed)

    monkeypatch.setattr("torch.distributed.run.main", ranks)
    assert torchrun.main() == DataError.exit_code
    assert "rank 1 was the first to fail, with exit code 3" in capsys.readouterr().err
