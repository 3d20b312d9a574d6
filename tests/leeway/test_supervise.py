"""What a supervisor does about a role that has died."""

import sys

import pytest
from leeway_rl.common.errors import DataError, RoleDiedError
from leeway_rl.leeway.supervise import QUICK_DEATHS, QUICK_S, Role, mend


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
    with pytest.raises(RoleDiedError, match=r"6 times in a row: rollout-0 ended with code 1.*\n.*no such engine"):
        mended(role)


def test_one_that_takes_minutes_to_fail_is_given_up_too(dying):
    role = dying(1)
    for _ in range(QUICK_DEATHS):
        role.started -= QUICK_S / 2
        mended(role)
    role.started -= QUICK_S / 2
    with pytest.raises(RoleDiedError):
        mended(role)


def test_progress_or_a_long_life_between_deaths_starts_the_count_again(dying):
    role = dying(1)
    for step in range(2 * QUICK_DEATHS):
        mended(role, progress=step)
    for _ in range(2 * QUICK_DEATHS):
        role.started -= 2 * QUICK_S
        mended(role, progress=step)


def test_a_users_mistake_is_not_tried_again(dying):
    with pytest.raises(DataError, match="ended with code 3"):
        mended(dying(3))
