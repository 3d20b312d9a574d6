"""A group's clock: what counts, what does not, and how long it may run. No server, no clock."""

import pytest
from leeway_rl.common.clocks import GroupClocks, generation_limit_s, grading_limit_s
from leeway_rl.common.config import compose
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.queue.entries import Lease, WorkStream

from tests.samples import a_ticket

TICKET = a_ticket(group_size=16, max_new_tokens=32768)


def config(*settings):
    return compose(["tiny"], ["broker.lease_s=10", *settings])


def lease(worker="w", *, attempt=1, silent_s=0.0, stream=WorkStream.PROMPTS):
    return Lease(stream=stream, entry_id="1-0", group_id="7-1", worker=worker, attempt=attempt, silent_s=silent_s)


@pytest.fixture
def look():
    """Clocks of 30 s under a lease of 10 s; looks at times and leases, and gives who is late."""
    clocks = GroupClocks(config("broker.generation_s=30"))

    def at(now, *held, wanted=TICKET):
        return [late.lease.worker for late in clocks.look(now, held, lambda _: wanted)]

    at.clocks = clocks
    return at


def test_a_group_is_late_after_its_time_with_one_worker(look):
    assert [look(1000 + second, lease()) for second in range(0, 31, 5)] == [[]] * 7
    assert look(1035, lease()) == ["w"]
    assert look.clocks.held("7-1").held_s == 35


def test_waiting_on_the_stream_does_not_count(look):
    for second in range(0, 1000, 5):
        assert look(second) == []
    assert look(1000, lease()) == []
    assert look(1005, lease()) == []


def test_another_worker_begins_anew_and_so_does_another_attempt(look):
    for second in range(0, 30, 5):
        assert look(second, lease()) == []
    assert look(35, lease("other", attempt=2)) == []
    assert [look(35 + second, lease("other", attempt=2)) for second in (5, 10, 15, 20, 25, 30)] == [[]] * 6
    assert look(70, lease("other", attempt=2)) == ["other"]


def test_a_lease_that_ran_out_stands_still(look):
    for second in range(0, 500, 5):
        assert look(second, lease(silent_s=second)) == []


@pytest.mark.parametrize("jump", [7200, -7200, 1e9])
def test_a_servers_clock_that_is_set_makes_nobody_late(look, jump):
    assert look(1e6, lease()) == []
    assert look(1e6 + jump, lease()) == [], "at most a lease has passed"
    assert look(1e6 + jump + 5, lease()) == []
    assert look(1e6 + 5, lease()) == []


def test_a_group_that_nobody_waits_for_has_no_clock(look):
    for second in range(0, 500, 5):
        assert look(second, lease(), wanted=None) == []


def test_by_itself_the_limit_goes_with_the_longest_response_that_the_ticket_allows():
    assert generation_limit_s(config(), TICKET) == 600 + 32768 / 2
    assert generation_limit_s(config(), a_ticket(max_new_tokens=24)) == 612
    assert generation_limit_s(config("broker.generation_s=99"), TICKET) == 99


def test_with_an_environment_the_limit_has_room_for_all_its_turns():
    talks = ("environment.use=calculator", "environment.max_turns=3", "environment.turn_s=20")
    ticket = a_ticket(group_size=4, max_new_tokens=24)
    assert generation_limit_s(config(*talks), ticket) == 612 + 4 * 20 * 4, "the torch engine waits for each response"
    vllm = config(*talks, "rollout.engine=vllm")
    assert generation_limit_s(vllm, ticket) == 612 + 4 * 20 * 4, "a group's environments may be asked in turn"
    assert generation_limit_s(config(*talks, "broker.generation_s=99"), ticket) == 99


def test_grading_has_all_the_time_that_a_verifier_that_works_could_need():
    settings = config("verifier.timeout_s=10", "verifier.code_total_s=120", "broker.generation_s=30")
    assert grading_limit_s(settings, TICKET) == 600 + 12 * 16 * 10
    assert grading_limit_s(settings, a_ticket(group_size=16, ability="code")) == 600 + 12 * 16 * 120
    clocks = GroupClocks(settings)
    held = lease(stream=WorkStream.RESPONSES)
    late = [second for second in range(0, 2600, 10) if clocks.look(second, [held], lambda _: TICKET)]
    assert late[0] == 600 + 12 * 16 * 10 + 10


def test_what_a_verifier_may_hold_is_what_the_rule_says():
    from leeway_rl.common.clocks import GRADING_ROUNDS
    from leeway_rl.verifier.pool import ATTEMPTS
    from leeway_rl.verifier.worker import GROUPS_A_JOB

    assert GRADING_ROUNDS == GROUPS_A_JOB * ATTEMPTS


def test_a_limit_below_the_lease_is_refused():
    with pytest.raises(ConfigError, match=r"broker\.generation_s = 9 is below broker\.lease_s = 10: .* at least 10"):
        config("broker.generation_s=9")
    assert config("broker.generation_s=10").broker.generation_s == 10
    with pytest.raises(ConfigError, match=r"broker\.generation_s = 'soon'"):
        config("broker.generation_s=soon")
