"""What a supervisor does about a role that has died."""

import sys

import pytest
from leeway_rl.common.errors import BrokerError, DataError, RoleDiedError
from leeway_rl.leeway.running.supervise import DEATHS_BESIDE, QUICK_DEATHS, QUICK_S, Role, mend


@pytest.fixture
def dying(tmp_path):
    """Gives a started role whose process ends with an exit code."""

    def make(code):
        program = f"print('no such engine'); raise SystemExit({code})"
        role = Role("rollout-0", [sys.executable, "-c", program], tmp_path / "rollout-0.log", threads=1)
        role.start()
        role.process.wait()
        return role

    return make


def mended(role, progress=0):
    mend(role, None, progress)
    role.process.wait()


def test_a_role_that_never_comes_up_is_given_up_with_its_last_words(dying):
    role = dying(1)
    for _ in range(QUICK_DEATHS):
        mended(role)
    with pytest.raises(RoleDiedError) as died:
        mended(role)
    words = "6 times in a row: rollout-0 died: it ended with code 1: no such engine"
    assert str(died.value) == f"{words} ({role.log})"


def test_one_that_takes_minutes_to_fail_is_given_up_too(dying):
    role = dying(1)
    for _ in range(QUICK_DEATHS):
        role.started -= QUICK_S / 2
        mended(role)
    role.started -= QUICK_S / 2
    with pytest.raises(RoleDiedError):
        mended(role)


def test_what_redis_refuses_for_long_is_given_up_with_the_exit_code_of_redis(dying):
    role = dying(BrokerError.exit_code)
    for _ in range(QUICK_DEATHS):
        role.started -= 2 * QUICK_S  # it asks again for broker.retry_s before it ends
        mended(role)
    with pytest.raises(BrokerError, match="6 times in a row: rollout-0 died: it ended with code 4: no such engine"):
        mended(role)


def test_progress_or_a_long_life_between_deaths_starts_the_count_again(dying):
    role = dying(1)
    for step in range(2 * QUICK_DEATHS):
        mended(role, progress=step)
    for _ in range(2 * QUICK_DEATHS):
        role.started -= 2 * QUICK_S
        mended(role, progress=step)


def test_a_users_mistake_is_not_tried_again(dying):
    with pytest.raises(DataError, match="it ended with code 3: no such engine"):
        mended(dying(3))


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("[][0]", "died: it ended with code 1: IndexError: list index out of range"),
        ("import os; os.kill(os.getpid(), 9)", "died: it was killed by signal 9 (SIGKILL)"),
        ("raise SystemExit(0)", "left, with code 0"),
    ],
)
def test_whoever_is_started_again_has_its_reason_in_one_line(tmp_path, capsys, bus, end, words):
    log = tmp_path / "rollout-0.log"
    log.write_text("Traceback (most recent call last):\nOldError: of the start before\n")
    role = Role("rollout-0", [sys.executable, "-c", end], log, threads=1)
    role.start()
    role.process.wait()
    mend(role, bus.desk, 0)
    role.process.wait()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rollout-0 {words}")
    assert line.endswith(f"({log}); it is started again")


def test_what_dies_beside_a_run_is_started_again_a_few_times_then_given_up_and_said_once(tmp_path, capsys):
    role = Role("tracker-wandb", [sys.executable, "-c", "raise OSError('no route')"], tmp_path / "log", threads=1)
    role.essential = False
    role.start()
    for _ in range(DEATHS_BESIDE + 3):
        role.process.wait()
        mend(role, None, 0)
    *again, given_up = capsys.readouterr().err.splitlines()
    assert (len(again), role.given_up) == (DEATHS_BESIDE, True)
    assert given_up.endswith("no route (" + str(tmp_path / "log") + "); the run goes on without it")


def test_a_users_mistake_beside_a_run_is_given_up_at_once_and_an_orderly_end_stays(tmp_path, capsys):
    for code, said in ((2, 1), (0, 0), (130, 0)):
        role = Role("tracker-wandb", [sys.executable, "-c", f"raise SystemExit({code})"], None, 1, essential=False)
        role.start()
        role.process.wait()
        mend(role, None, 0)
        mend(role, None, 0)
        assert len(capsys.readouterr().err.splitlines()) == said
