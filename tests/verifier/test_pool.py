"""Children are killed, die and leave; the verdicts stay right and in order."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.types import Verdict, VerdictKind
from leeway_rl.verifier import process_seat
from leeway_rl.verifier.pool import ATTEMPTS, GradeItem, GraderPool
from leeway_rl.verifier.process_seat import Child

CORRECT, WRONG, TIMEOUT, ERROR = VerdictKind.CORRECT, VerdictKind.WRONG, VerdictKind.TIMEOUT, VerdictKind.ERROR
ENDLESS = r"9^{9^{9^9}}"
HARD = r"\sqrt[3]{125}"
"""Right where 5 is, and only Math-Verify can tell."""


def item(answer: str, *golds: str, finished: bool = True) -> GradeItem:
    return GradeItem(ability="math", response=rf"\boxed{{{answer}}}", golds=golds or ("5",), finished=finished)


def kinds(verdicts: list[Verdict]) -> list[VerdictKind]:
    return [verdict.kind for verdict in verdicts]


def wait_until(true: Callable[[], object], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.01)


def busy(children: list[psutil.Process]) -> bool:
    return any(not gone(child.pid) and child.status() == psutil.STATUS_RUNNING for child in children)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def pool() -> Iterator[GraderPool]:
    """A patient pool with warm children, for tests that leave them alive."""
    with GraderPool(2, timeout_s=30) as pool:
        pool.grade([item(HARD), item(HARD)])
        yield pool


@pytest.fixture(scope="module")
def short() -> Iterator[GraderPool]:
    """A pool with a short clock and one child."""
    with GraderPool(1, timeout_s=1.0) as pool:
        pool.grade([item(HARD)])
        yield pool


@pytest.fixture
def hasty(short: GraderPool, monkeypatch: pytest.MonkeyPatch) -> GraderPool:
    """It again; tests may kill its child as long as they end with a verdict from it. The clock is for what takes all of
    it: what is graded in a moment has all the time that a busy machine needs."""
    ask = Child.ask

    def patient(child: Child, line: bytes, timeout_s: float, overtime: Callable[[], None]) -> tuple[Verdict, bool]:
        return ask(child, line, 200 if b"sqrt[3]" in line else timeout_s, overtime)

    monkeypatch.setattr(Child, "ask", patient)
    wait_until(short.pids)
    return short


def test_verdicts_keep_the_order_of_the_items(pool: GraderPool) -> None:
    answers = ["5", "6", r"\frac{10}{2}", r"\sqrt{25}", "7", ""] * 8
    expected = [CORRECT, WRONG, CORRECT, CORRECT, WRONG, VerdictKind.NO_ANSWER] * 8
    assert kinds(pool.grade([item(answer) for answer in answers])) == expected


def test_an_empty_group_is_graded_at_once(pool: GraderPool) -> None:
    assert pool.grade([]) == []


def test_grading_works_from_any_thread_and_several_at_once(pool: GraderPool) -> None:
    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(4) as threads:
        groups = threads.map(pool.grade, [[item("5"), item(str(n))] for n in range(20)])
    assert [kinds(group)[1] for group in groups] == [CORRECT if n == 5 else WRONG for n in range(20)]


def test_children_outlive_the_thread_that_made_the_pool() -> None:
    made: list[GraderPool] = []
    maker = threading.Thread(target=lambda: made.append(GraderPool(1)))
    maker.start()
    maker.join()
    with made[0] as pool:
        wait_until(pool.pids)
        before = pool.pids()
        assert kinds(pool.grade([item(HARD)])) == [CORRECT]
        assert pool.pids() == before


def test_any_text_travels_to_a_child_and_back(pool: GraderPool) -> None:
    odd = GradeItem(ability="math", response="\n\ud800\0é" * 50_000 + r"\boxed{5}", golds=("5",), finished=True)
    assert kinds(pool.grade([odd])) == [CORRECT]
    assert pool.grade([item("\ud800\n")])[0].kind is WRONG


@pytest.mark.parametrize(
    "answer",
    [
        ENDLESS,
        r"\binom{10^9}{5\cdot 10^8}",
        r"\prod_{k=1}^{10^8} k",
        r"\sqrt{2+" * 1000 + "2" + "}" * 1000,
        "{" * 4000 + "}" * 4000,
    ],
    ids=["power tower", "binomial", "product", "nested radicals", "nested braces"],
)
def test_a_trap_costs_its_own_clock_and_nothing_more(hasty: GraderPool, answer: str, never_starved: None) -> None:
    trapped, after = hasty.grade([item(answer), item(HARD)])
    assert trapped.kind in (TIMEOUT, WRONG), "where gmpy2 or the memory limit answers first, it is wrong"
    assert trapped.seconds < 60, "it would take for ever"
    assert after.kind is CORRECT


def test_a_slow_response_does_not_hold_up_the_others() -> None:
    with GraderPool(2, timeout_s=600) as pool:
        pool.grade([item(HARD)] * 4)
        slow, *others = [pool.submit(each) for each in [item(ENDLESS), *[item(HARD)] * 50]]
        assert kinds([other.result(timeout=200) for other in others]) == [CORRECT] * 50
        assert not slow.done()


def test_a_response_that_takes_all_of_its_clock_is_a_timeout_that_says_so(
    hasty: GraderPool, never_starved: None
) -> None:
    slow, other = hasty.grade([item(ENDLESS), item(HARD)])
    assert (slow.kind, slow.reason, other.kind) == (TIMEOUT, "killed after 1 s", CORRECT)


def test_the_start_of_a_child_is_not_on_the_clock_of_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Child):
        def wait_ready(self) -> None:
            time.sleep(1.1)  # longer than the clock
            super().wait_ready()

    monkeypatch.setattr(process_seat, "Child", Slow)
    with GraderPool(1, timeout_s=1.0) as pool:
        assert kinds(pool.grade([item(HARD)])) == [CORRECT]


def test_a_response_whose_child_dies_is_graded_again_by_another(hasty: GraderPool) -> None:
    children = hasty.pids()  # two, where a busy machine has made one overrun its clock
    for child in children:
        os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as thread:
        verdicts = thread.submit(hasty.grade, [item(HARD)])
        for child in children:
            os.kill(child, signal.SIGKILL)
        assert kinds(verdicts.result()) == [CORRECT]
    assert not {*hasty.pids()} <= {*children}


def test_an_idle_child_may_die_too(hasty: GraderPool) -> None:
    for pid in hasty.pids():
        os.kill(pid, signal.SIGKILL)
    assert kinds(hasty.grade([item(HARD)])) == [CORRECT]


def test_a_response_whose_children_keep_dying_is_an_error_and_never_wrong() -> None:
    with GraderPool(1, timeout_s=600) as pool, ThreadPoolExecutor(1) as thread:
        pool.grade([item(HARD)])
        verdicts = thread.submit(pool.grade, [item(ENDLESS)])
        for _ in range(ATTEMPTS):
            (child,) = pool.pids()
            os.kill(child, signal.SIGKILL)
            wait_until(lambda dead=child: verdicts.done() or pool.pids() not in ([], [dead]))
        (verdict,) = verdicts.result()
        assert verdict.kind is ERROR
        assert "signal 9" in verdict.reason
        assert kinds(pool.grade([item(HARD)])) == [CORRECT]


def test_a_failure_in_our_code_is_an_error_that_says_what_failed(pool: GraderPool) -> None:
    (verdict,) = pool.grade([item("5", " ")])
    assert verdict.kind is ERROR
    assert verdict.reason == f"ValueError: there is no gold to compare with, tried {ATTEMPTS} times"


def test_children_that_cannot_start_are_errors_not_a_hang() -> None:
    with GraderPool(1, memory_bytes=1 << 24) as pool:
        (verdict,) = pool.grade([item(HARD)])
    assert verdict.kind is ERROR
    assert "did not start" in verdict.reason


def test_a_child_that_grew_past_half_its_memory_is_replaced() -> None:
    with GraderPool(1, memory_bytes=220 << 20) as pool:  # warm, it already has more than half of that
        wait_until(pool.pids)
        first = pool.pids()
        assert kinds(pool.grade([item(HARD), item("6")])) == [CORRECT, WRONG]
        assert not {*first} & {*pool.pids()}
        assert kinds(pool.grade([item(HARD)])) == [CORRECT], "another one graded it"


def test_an_unknown_ability_is_refused_before_any_work(pool: GraderPool) -> None:
    stranger = GradeItem(ability="poetry", response="", golds=("5",), finished=True)
    with pytest.raises(ConfigError, match="poetry"):
        pool.grade([item("5"), stranger])


def test_close_leaves_no_process_and_no_thread_behind() -> None:
    threads = set(threading.enumerate())
    with GraderPool(2) as pool:
        pool.grade([item(HARD)] * 10)
        children = pool.pids()
    assert children
    assert all(gone(pid) for pid in children)
    assert pool.pids() == []
    assert set(threading.enumerate()) <= threads
    pool.close()
    with pytest.raises(ValueError, match="closed"):
        pool.grade([item(HARD)])


def test_close_ends_what_is_being_graded() -> None:
    with ThreadPoolExecutor(1) as thread:
        with GraderPool(1, timeout_s=600) as pool:
            pool.grade([item(HARD)])
            verdicts = thread.submit(pool.grade, [item(ENDLESS), item(ENDLESS)])
            wait_until(lambda: busy([psutil.Process(pid) for pid in pool.pids()]))
        assert kinds(verdicts.result(timeout=200)) == [ERROR, ERROR]


def test_busy_children_die_with_a_killed_parent() -> None:
    script = """
import sys
from leeway_rl.verifier.pool import GradeItem, GraderPool
pool = GraderPool(2, timeout_s=60)
item = lambda a: GradeItem(ability="math", response=a, golds=("5",), finished=True)
pool.grade([item(r"\\boxed{\\sqrt[3]{125}}")] * 20)
print("warm", flush=True)
pool.grade([item(r"\\boxed{9^{9^{9^9}}}")])
"""
    with subprocess.Popen([sys.executable, "-P", "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "warm\n"
        children: list[psutil.Process] = []
        wait_until(lambda: busy(children.extend(psutil.Process(parent.pid).children()) or children))
        parent.kill()
    wait_until(lambda: all(gone(child.pid) for child in children))


def test_a_terminals_interrupt_does_not_reach_the_children(pool: GraderPool) -> None:
    before = pool.pids()
    for pid in before:
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(pid, signal.SIGINT)
    assert kinds(pool.grade([item(HARD)] * 4)) == [CORRECT] * 4
    assert {*before} <= {*pool.pids()}, "a spare seat may have one, too, where something took long"


def test_a_pool_without_jobs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one job"):
        GraderPool(0)


def test_with_one_job_a_slow_response_goes_on_beside_the_others() -> None:
    with GraderPool(1, timeout_s=600) as pool:
        pool.grade([item(HARD)])
        slow, *others = [pool.submit(each) for each in [item(ENDLESS), *[item(HARD)] * 15]]
        assert kinds([other.result(timeout=200) for other in others]) == [CORRECT] * 15
        assert not slow.done()


def test_a_clock_that_runs_out_over_a_stopped_process_is_not_the_responses_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stopped(Child):
        """The first that is asked stands still; a second one has all the time that a busy machine needs."""

        asked = 0

        def ask(self, line: bytes, timeout_s: float, overtime: Callable[[], None]) -> tuple[Verdict, bool]:
            Stopped.asked += 1
            if Stopped.asked == 1:
                os.kill(self.pid, signal.SIGSTOP)
            return super().ask(line, timeout_s if Stopped.asked == 1 else 200, overtime)

    monkeypatch.setattr(process_seat, "Child", Stopped)
    with GraderPool(1, timeout_s=1.5) as pool:
        verdict = pool.grade([item(HARD)])[0]
    assert verdict.kind is CORRECT, "a second process was asked"
    assert verdict.seconds > 1.5
    assert Stopped.asked == 2


@pytest.mark.timeout(900)
def test_a_response_that_crashes_every_process_is_to_blame() -> None:
    with GraderPool(1, timeout_s=600) as pool, ThreadPoolExecutor(1) as thread:
        pool.grade([item(HARD)])
        verdicts = thread.submit(pool.grade, [item(ENDLESS)])
        for _ in range(2):
            wait_until(pool.pids)
            (child,) = pool.pids()
            # Longer than any start: one that dies while it starts is the machine's fault, not the response's.
            # These are seconds of a processor, which take far longer where many share it.
            wait_until(lambda child=child: psutil.Process(child).cpu_times().user > 5, within_s=250)
            os.kill(child, signal.SIGABRT)
            wait_until(lambda dead=child: verdicts.done() or pool.pids() not in ([], [dead]))
        (verdict,) = verdicts.result()
        assert verdict.kind is TIMEOUT
        assert verdict.reason == "grading it crashes the grading process (signal 6)"


MANY = r"""
import gc, json, os
import psutil
from leeway_rl.verifier.pool import GradeItem, GraderPool

def item(answer, gold="5"):
    return GradeItem(ability="math", response=rf"\boxed{{{answer}}}", golds=(gold,), finished=True)

def open_files():
    return len(os.listdir("/proc/self/fd"))

files, resident, endless = [open_files()], [], []
with GraderPool(2, timeout_s=1.0) as pool:
    for number in range(20_000):
        answer = (rf"{number}\sqrt{{2}}", str(number), rf"\frac{{{number}}}{{7}}", "x>" + str(number))[number % 4]
        answer = rf"\sqrt[3]{{{number}}}" if number % 40 == 0 else answer  # for a child
        answer = "9^{9^{9^9}}" if number % 6_000 == 1_000 else answer  # one that has to be killed
        future = pool.submit(item(answer, str(number)))
        if answer == "9^{9^{9^9}}":
            endless.append(future)
        if not future.done() and number % 400 == 0:
            future.result()
        if number in (10_000, 19_999):
            for future in [*endless, pool.submit(item(r"\sqrt[3]{125}"))]:
                future.result()
            gc.collect()
            each = [psutil.Process(pid).memory_info().rss for pid in pool.pids()]
            resident.append(psutil.Process().memory_info().rss + max(each))  # a seat may be without one for a moment
    children = pool.pids()
files.append(open_files())
left = [child.pid for child in psutil.Process().children()]
print(json.dumps({"children": children, "left": left, "files": files, "resident": resident}))
"""


@pytest.mark.slow
def test_twenty_thousand_jobs_leave_nothing_behind_and_memory_flat(tmp_path: Path) -> None:
    """In a process of its own, because memory and files of the tests' process are also those of other tests."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-P", "-c", MANY], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(gone(pid) for pid in found["children"])
    assert found["left"] == []
    assert found["files"][0] == found["files"][1]
    assert list(tmp_path.iterdir()) == []
    early, late = found["resident"]
    assert late < early + (48 << 20), [size >> 20 for size in found["resident"]]
