"""The timetable is a pure function of its seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leeway_rl.common.errors import DataError
from leeway_rl.leeway.chaos.faults import FAULTS
from leeway_rl.leeway.chaos.run import chaos
from leeway_rl.leeway.chaos.timetable import Planned, timetable

WEIGHTS = {name: fault.weight for name, fault in FAULTS.items()}


def test_the_same_seed_gives_the_same_faults_and_another_seed_others():
    first = timetable(1, 50, 3.0, WEIGHTS)
    assert timetable(1, 50, 3.0, dict(reversed(WEIGHTS.items()))) == first
    assert timetable(2, 50, 3.0, WEIGHTS) != first


def test_a_timetable_is_the_same_in_every_version_of_this_program():
    assert timetable(7, 3, 1.0, {"a": 1, "b": 2}) == [
        Planned(at_s=pytest.approx(0.000000), kind="b", seed=2301595691),
        Planned(at_s=pytest.approx(0.34446856), kind="a", seed=2179419893),
        Planned(at_s=pytest.approx(0.34446856), kind="b", seed=1862494042),
    ]


@given(st.integers(0, 1 << 30), st.integers(1, 80), st.floats(0.0, 20.0))
def test_time_never_runs_back_and_no_kind_is_left_out_where_there_is_room(seed, count, every_s):
    planned = timetable(seed, count, every_s, WEIGHTS)
    assert len(planned) == count
    times = [fault.at_s for fault in planned]
    assert times == sorted(times)
    kinds = {fault.kind for fault in planned}
    assert len(kinds) == len(WEIGHTS) if count >= len(WEIGHTS) else len(kinds) == count


def test_faults_come_as_often_as_asked_in_proportion_and_some_at_once():
    planned = timetable(0, 4000, 2.0, {"often": 3.0, "seldom": 1.0})
    assert planned[-1].at_s == pytest.approx(8000, rel=0.05)
    counts = Counter(fault.kind for fault in planned)
    assert counts["often"] == pytest.approx(3000, rel=0.05)
    times = [fault.at_s for fault in planned]
    assert len(times) - len(set(times)) == pytest.approx(600, rel=0.15)


def test_every_kind_says_what_it_does():
    assert all(fault.meaning and fault.weight > 0 for fault in FAULTS.values())
    assert {fault.needs for fault in FAULTS.values()} == {"", "proxy", "clock", "hanging", "disk"}


def test_a_rehearsal_refuses_a_redis_of_several_servers(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/redis-url").write_text("redis+cluster://127.0.0.1:7000,127.0.0.1:7001\n")
    with pytest.raises(DataError, match="the Redis of run 'r' is not one server"):
        chaos("r", tmp_path, [], [], seed=0, count=1, every_s=1.0, per_step=1.0, only=[])
