"""The simulated system does what can be worked out by hand, loses no ticket, and shows what the policies promise."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trying
from hypothesis import strategies as st
from leeway_rl.common.config import Overflow
from leeway_rl.learner.flow.tickets import TicketBook
from leeway_rl.leeway.planning.lengths import lognormal
from leeway_rl.leeway.planning.plan import figures
from leeway_rl.leeway.planning.simulate import System, simulate

STEP_S = 1.0  # of training, in every system here
FREE = {"concurrency": 10_000, "train_s": STEP_S}  # every ticket is begun at once


def same(tokens, responses=1):
    return np.full((1, responses), tokens)


def ends(outcome):
    return [round(step.ended, 9) for step in outcome.steps]


def heads(outcome):
    return [step.heads for step in outcome.steps]


def test_on_policy_rollout_and_learner_take_turns():
    system = System(lengths_GS=same(100), groups_per_step=2, steps=3, max_staleness=0, alone=50.0, **FREE)
    assert ends(simulate(system)) == [3, 6, 9]  # 2 s of sampling, 1 s of training
    assert heads(simulate(system)) == [[0, 0]] * 3


def test_one_version_of_staleness_hides_the_shorter_of_the_two():
    system = System(lengths_GS=same(100), groups_per_step=2, steps=4, max_staleness=1, alone=200.0, **FREE)
    outcome = simulate(system)
    assert ends(outcome) == [1.5, 2.5, 3.5, 4.5]  # half a second of sampling, then the learner never waits
    assert heads(outcome) == [[0, 0], [1, 1], [1, 1], [1, 1]]
    slow = simulate(replace(system, alone=50.0))
    assert ends(slow) == [3, 4, 6, 7]  # 2 s of sampling: two batches at a time, every three seconds


def test_responses_share_a_replica():
    shared = System(
        lengths_GS=np.array([[10, 20]]), groups_per_step=1, steps=1, max_staleness=0, alone=10.0, peak=20.0, **FREE
    )
    # Two share it for 10 tokens at 1/10 + 1/20 s each, then one has it for 10 tokens at 1/10 s.
    assert ends(simulate(shared)) == [1.5 + 1.0 + STEP_S]
    assert simulate(shared).sampling_s == pytest.approx(2.5)
    later = replace(shared, lengths_GS=np.array([[10, 10], [10, 10]]), groups_per_step=2, concurrency=1)
    assert ends(simulate(later)) == [1.5 + 1.5 + STEP_S]  # one slot: the second group begins when the first has ended
    assert ends(simulate(replace(later, replicas=2))) == [1.5 + STEP_S]


def test_new_weights_meet_a_response_in_the_middle():
    system = System(lengths_GS=same(25), groups_per_step=1, steps=4, max_staleness=9, alone=10.0, **FREE)
    flying, whole = simulate(system), simulate(replace(system, in_flight=False))
    # 2.5 s each; steps end at 3.5 and 4.5. The third ticket, issued at 3.5, sees versions 1 for 10 tokens, 2 for 15.
    assert ends(flying)[:3] == ends(whole)[:3] == [3.5, 4.5, 7.0]
    assert (flying.steps[2].ages, whole.steps[2].ages) == ({1: 10, 0: 15}, {1: 25})
    paused = simulate(replace(system, pause_s=0.5))
    assert ends(paused)[2] == 8.0  # two versions came while it was sampled, half a second each


def test_a_slot_takes_its_next_group_once_it_has_handed_the_last_one_over():
    system = System(
        lengths_GS=same(10), groups_per_step=2, steps=1, max_staleness=0, alone=10.0, turnaround_s=0.5, train_s=STEP_S
    )
    assert ends(simulate(replace(system, concurrency=1))) == [2 * (1 + 0.5) + STEP_S]
    assert ends(simulate(replace(system, concurrency=2))) == [1 + 0.5 + STEP_S]  # two slots, beside each other
    assert simulate(replace(system, concurrency=1)).generation_s == pytest.approx(2.0)  # it is no part of generation


def test_graders_are_a_queue_and_rejected_groups_are_replaced_at_once():
    system = System(
        lengths_GS=same(10), groups_per_step=3, steps=1, max_staleness=0, alone=10.0, verify_s=2.0, graders=1, **FREE
    )
    assert ends(simulate(system)) == [1 + 3 * 2 + STEP_S]
    assert ends(simulate(replace(system, graders=0))) == [1 + 2 + STEP_S]
    dull = simulate(replace(system, lengths_GS=np.full((50, 1), 10), graders=0, rejected=0.8))
    rounds, odd = divmod(round(dull.steps[0].began, 9), 3)  # each round of replacements takes 1 + 2 s
    assert (odd, rounds > 1) == (0, True)
    assert dull.refunded["zero_advantage"] == dull.issued - 3


def test_the_memory_is_the_payload_of_what_is_generated_until_a_checkpoint_covers_it():
    system = System(lengths_GS=same(10, 4), groups_per_step=2, steps=6, max_staleness=0, checkpoint_every=3, **FREE)
    assert simulate(system).peak_bytes == 3 * 2 * 4 * 10 * 8


SYSTEMS = st.builds(
    System,
    lengths_GS=st.builds(
        lambda mean, sigma, seed: lognormal(mean, sigma, 400, group_size=3, seed=seed)[:97],
        st.floats(1, 80),
        st.floats(0, 1.5),
        st.integers(0, 9),
    ),
    groups_per_step=st.integers(1, 5),
    steps=st.integers(1, 12),
    max_staleness=st.integers(0, 4),
    overflow=st.sampled_from(get_args(Overflow)),
    pipeline_depth=st.one_of(st.just("auto"), st.integers(5, 30)),
    replicas=st.integers(1, 4),
    concurrency=st.integers(1, 3),
    alone=st.floats(5, 200),
    peak=st.floats(5, 2000),
    in_flight=st.booleans(),
    pause_s=st.sampled_from([0.0, 0.3]),
    verify_s=st.sampled_from([0.0, 0.7]),
    graders=st.integers(0, 2),
    train_s=st.floats(0.1, 3),
    train_s_per_token=st.sampled_from([0.0, 0.01]),
    rejected=st.sampled_from([0.0, 0.4]),
)


@trying(max_examples=60, deadline=None)
@given(system=SYSTEMS)
def test_every_ticket_ends_once_and_every_token_is_somewhere(system):
    outcome = simulate(system)
    assert len(outcome.steps) == system.steps
    assert outcome.issued == outcome.trained + outcome.refunded.total() + outcome.live
    assert outcome.trained == system.steps * system.groups_per_step
    for step in outcome.steps:
        assert step.live <= (system.max_staleness + 1) * system.groups_per_step
        assert step.ages.total() == 3 * system.groups_per_step or step.ages.total() >= step.responses
        within = max(step.heads) <= system.max_staleness
        assert within or system.overflow in ("mask", "soft")
        assert step.past == sum(many for age, many in step.ages.items() if age > system.max_staleness)
    trained = sum(step.ages.total() for step in outcome.steps)
    assert trained + outcome.expired_tokens + outcome.rejected_tokens <= outcome.generated_tokens
    assert 0 <= outcome.sampling_s <= system.replicas * outcome.steps[-1].ended + 1e-6


# --- what must hold --------------------------------------------------------------------------------------------------


def share_of_never_waiting(row):
    return row["steps_per_hour"] / 3600 * STEP_S


@pytest.mark.parametrize("overflow", get_args(Overflow))
@pytest.mark.parametrize("sigma", [0.0, 0.25])
def test_auto_keeps_a_fast_rollouts_data_young_at_the_same_throughput(overflow, sigma):
    half = System(
        lengths_GS=lognormal(500, sigma, 10**6, group_size=1, seed=0),
        groups_per_step=32,
        steps=80,
        max_staleness=8,
        overflow=overflow,
        alone=1000.0,
        **FREE,
    )
    auto, full = figures(simulate(half)), figures(simulate(replace(half, pipeline_depth=9 * 32)))
    assert auto["head_mean"] <= 1.5
    assert full["head_mean"] > 7.8
    assert auto["steps_per_hour"] >= 0.98 * full["steps_per_hour"]


TAIL = System(
    lengths_GS=lognormal(1000, 1.0, 10**6, group_size=1, seed=0),
    groups_per_step=32,
    steps=150,
    max_staleness=2,
    alone=1000.0,
    **FREE,
)
"""Group times lognormal, σ = 1, mean one training step."""


@pytest.mark.parametrize("bound", [2, 8])
def test_auto_does_not_shrink_into_waiting_under_a_heavy_tail(bound):
    for overflow in ("wait", "soft"):
        auto = replace(TAIL, max_staleness=bound, overflow=overflow)
        full = replace(auto, pipeline_depth=32 * 9)
        rates = [figures(simulate(system))["steps_per_hour"] for system in (auto, full)]
        assert rates[0] >= 0.97 * rates[1], overflow


def test_mask_is_as_fast_as_soft_trains_nothing_past_the_bound_and_keeps_the_lengths():
    mask, soft = (figures(simulate(replace(TAIL, overflow=overflow))) for overflow in ("mask", "soft"))
    assert mask["steps_per_hour"] >= 0.97 * soft["steps_per_hour"]
    assert (mask["tokens_trained_past_bound"], soft["tokens_trained_past_bound"] > 0) == (0, True)
    assert mask["length_trained_over_generated"] >= 0.97
    assert 0.2 < mask["masked_share"] < 0.3


def test_wait_pays_for_the_tail_and_drop_for_the_length():
    wait, drop = (figures(simulate(replace(TAIL, overflow=overflow))) for overflow in ("wait", "drop"))
    assert 0.33 < share_of_never_waiting(wait) < 0.45
    assert wait["length_trained_over_generated"] == pytest.approx(1, abs=0.02)
    assert share_of_never_waiting(drop) > 0.95
    assert drop["length_trained_over_generated"] < 0.75
    assert drop["expired_share"] > 0.3


class InOrderOfArrival(TicketBook):
    def ready(self, ticket):
        super().ready(ticket)
        self.live[ticket] = self.live.pop(ticket)  # behind all that came before it


def test_a_straggler_is_trained_at_once_because_the_oldest_ready_groups_go_first(monkeypatch):
    """Taken as they come in, stragglers would queue, and grow older: the difference to the design's table."""
    full = replace(TAIL, max_staleness=4, pipeline_depth=160)
    oldest = {overflow: figures(simulate(replace(full, overflow=overflow))) for overflow in ("drop", "soft")}
    monkeypatch.setattr("leeway_rl.leeway.planning.simulate.TicketBook", InOrderOfArrival)
    arrived = {overflow: figures(simulate(replace(full, overflow=overflow))) for overflow in ("drop", "soft")}
    assert oldest["drop"]["expired_share"] < 0.25 < 0.35 < arrived["drop"]["expired_share"]
    assert oldest["soft"]["groups_past_share"] < 0.06 < 0.15 < arrived["soft"]["groups_past_share"]


@pytest.mark.parametrize("generation_s", [0.5, 1.0, 2.0])
def test_throughput_is_that_of_the_slower_half_and_on_policy_that_of_the_sum(generation_s):
    tokens = 1000
    system = System(
        lengths_GS=same(tokens),
        groups_per_step=8,
        steps=60,
        max_staleness=3,
        replicas=8,
        concurrency=1,
        alone=tokens / generation_s,
        train_s=STEP_S,
    )
    ahead, strict = (figures(simulate(replace(system, max_staleness=bound))) for bound in (3, 0))
    assert ahead["steps_per_hour"] / 3600 >= 0.97 / max(generation_s, STEP_S)
    assert strict["steps_per_hour"] / 3600 == pytest.approx(1 / (generation_s + STEP_S))
