"""The learner's hands on real streams: issue, take in, refund, account for everything. The test plays the workers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from leeway_rl.common import scored
from leeway_rl.common.config import compose, dump
from leeway_rl.common.ledger import Ledger, read
from leeway_rl.common.queue.entries import WEIGHTS, LetterKind
from leeway_rl.common.service import Service
from leeway_rl.common.types import VerdictKind
from leeway_rl.common.wording import words
from leeway_rl.learner.flow import intake as intake_module
from leeway_rl.learner.flow.curriculum import Curriculum
from leeway_rl.learner.flow.idling import Cycle, Idling
from leeway_rl.learner.flow.intake import Intake
from leeway_rl.learner.flow.pacing import Pacer
from leeway_rl.learner.flow.prompts import Prompt, PromptSource
from leeway_rl.learner.objective.learning_rate import learning_rate
from leeway_rl.learner.startup import make_book, open_ledger
from leeway_rl.learner.step_metrics import beside
from leeway_rl.learner.train import settings_at
from leeway_rl.leeway.proving.audit import audit

from tests.samples import a_ticket, some_responses, some_scores, two_turns

RIGHT, WRONG = VerdictKind.CORRECT, VerdictKind.WRONG
MIXED, DULL = (RIGHT, WRONG), (RIGHT, RIGHT)


@pytest.fixture
def begin(make_bus, tmp_path, monkeypatch):
    """Start an intake with two groups of two a step at bound 1; gives it, its worker's bus and its ledger. It looks
    around ten times as often as in a run, so that no test waits for it long."""
    monkeypatch.setattr(intake_module, "POLL_S", 0.05)
    monkeypatch.setattr(scored, "MEND_S", 0.2)
    started = []

    def with_settings(*settings, repair=lambda unreadable: False):
        bus, worker = make_bus("learner"), make_bus("worker")
        config = compose(["tiny"], ["train.groups_per_step=2", "train.group_size=2", "train.steps=3", *settings])
        ledger = Ledger(tmp_path / "ledger.jsonl")
        book = make_book(config, None)
        open_ledger(ledger, bus.learner, config, book, None, 1)
        prompts = [
            Prompt(prompt_id=f"p:{n}", tokens_P=np.array([3, n], np.uint32), ability="math", ground_truth=("4",))
            for n in range(4)
        ]
        curriculum = Curriculum(config, PromptSource(prompts))
        service = Service(bus.learner, "learner", lease_s=5, heartbeat_s=5)
        intake = Intake(bus.learner, service, book, curriculum, ledger, config, incarnation=1, repair=repair)
        bus.learner.restore_run(dump(config), 1, {})
        intake.start()
        started.append((intake, ledger))
        return intake, worker, ledger

    yield with_settings
    for intake, ledger in started:
        intake.stop()
        ledger.close()


@pytest.fixture
def flow(begin):
    return begin()


def lease(worker, wanted):
    """Take tickets off the prompts stream until ``wanted`` is there; gives its job."""
    held = lease.held.setdefault(worker.run, {})
    while wanted not in held:
        for job in worker.rollout.take(count=8, block_s=2, lease_s=60):
            held[int(job.group_id.split("-")[0])] = job
    return held.pop(wanted)


lease.held = {}


def play(worker, wanted, *, kinds=MIXED, version=0, spoil=None):
    """Take a ticket and see it through to the learner."""
    job = lease(worker, wanted)
    ticket = worker.rollout.ticket(job)
    worker.rollout.hand_over(job, some_responses(ticket, version=version))
    (job,) = worker.verifier.take(count=1, block_s=2, lease_s=60)
    if spoil is not None:
        worker.redis.set(worker.keys.group(job.group_id, "responses"), spoil)
    worker.verifier.hand_over(job, some_scores(ticket, kinds))


def end_step(intake, groups, **measured):
    """Close the books on a step whose version is published at once."""
    generated = intake.trained(groups, **measured)
    intake.published("0")
    return generated


def numbers(groups):
    return [group.ticket.ticket for group in groups]


def test_a_batch_is_the_oldest_groups_in_ticket_order_whatever_comes_first(flow, wait_until):
    intake, worker, _ = flow
    for ticket in (3, 1, 2):
        play(worker, ticket)
    wait_until(lambda: intake.depth() == (4, 3), "the three are ready")
    assert intake.next_batch(0.3) is None
    assert words(intake.waiting_for()) == "waiting for 1 of 2 groups, ticket 0 the oldest"
    play(worker, 0)
    assert numbers(intake.next_batch(30)) == [0, 1]


def test_a_group_without_a_signal_is_refunded_and_replaced(flow, wait_until):
    intake, worker, _ = flow
    play(worker, 0, kinds=DULL)
    wait_until(lambda: intake.counts.refunds["zero_advantage"] == 1, "the refund")
    for ticket in (1, 4, 2):
        play(worker, ticket)
    assert numbers(intake.next_batch(30)) == [1, 2]
    assert intake.depth()[0] == 4


def test_with_a_kl_term_over_all_groups_a_batch_is_filled_up_and_the_audit_agrees(begin):
    intake, worker, ledger = begin("objective.kl_beta=0.1", "objective.kl_groups='all'", "train.steps=1")
    for ticket in (0, 1):  # one step is due, so two places
        play(worker, ticket, kinds=DULL)
    play(worker, 3, kinds=DULL)
    play(worker, 2)
    assert intake.next_batch(0.3) is None
    play(worker, 4)
    batch = intake.next_batch(30)
    assert numbers(batch) == [0, 1, 2, 3, 4]
    assert beside(batch, intake.config.objective) == {"batch/groups_beside": 3}
    assert intake.counts.refunds["zero_advantage"] == 0
    end_step(intake, batch)
    intake.stop()
    intake.close_books()
    account = audit(ledger.path)
    assert (account.trained, account.trained_beside, account.next_ticket) == (5, 3, 5)


@pytest.mark.parametrize("spoil", [b"\x93garbage", b"", b"\xc1"])
def test_a_message_that_does_not_decode_is_made_again_and_the_batch_is_the_same(flow, spoil):
    intake, worker, _ = flow
    play(worker, 0, spoil=spoil)
    play(worker, 1)
    play(worker, 0)
    assert numbers(intake.next_batch(30)) == [0, 1]
    assert intake.counts.refunds["poison"] == 0
    (letter,) = worker.desk.dead_letters()
    assert (letter["kind"], letter["where"], letter["g"]) == ("damaged", "scored", "0-1")


def test_a_learner_that_was_superseded_leaves_at_once_and_settles_nothing_of_the_newer_one(flow, wait_until, make_bus):
    intake, worker, _ = flow
    wait_until(lambda: worker.overview.depths()["prompts"] == 4, "the first tickets")
    make_bus("learner-2").learner.issue(a_ticket(0, incarnation=2))
    jobs = worker.rollout.take(count=8, block_s=2, lease_s=60)
    (job,) = [job for job in jobs if job.group_id == "0-2"]
    ticket = worker.rollout.ticket(job)
    worker.rollout.hand_over(job, some_responses(ticket))
    (job,) = worker.verifier.take(count=1, block_s=2, lease_s=60)
    worker.verifier.hand_over(job, some_scores(ticket))
    wait_until(lambda: intake.service.failure is not None, "the older learner leaves")
    assert "incarnation 1 of the learner was superseded by 2" in str(intake.service.failure)
    assert worker.learner.scored_group(ticket.group_id) is not None
    assert worker.overview.depths()["scored"] == 1, "the newer learner finds it"


def test_the_number_alone_ends_a_superseded_learner(flow, wait_until, make_bus):
    intake, _, _ = flow
    newer = make_bus("learner-2").learner.raise_incarnation(at_least=2)
    wait_until(lambda: intake.service.failure is not None, "the older learner leaves")
    assert f"superseded by {newer}" in str(intake.service.failure)


@pytest.mark.parametrize("unlikely", [-9999.0, -np.inf, np.nan, 0.5])
def test_a_log_probability_that_no_sampler_gives_is_made_again_and_counted_apart(flow, unlikely):
    intake, worker, _ = flow
    job = lease(worker, 0)
    ticket = worker.rollout.ticket(job)
    sampled = some_responses(ticket)
    logprobs_T = sampled.logprobs_T.copy()
    logprobs_T[1] = unlikely
    worker.rollout.hand_over(job, replace(sampled, logprobs_T=logprobs_T))
    (job,) = worker.verifier.take(count=1, block_s=2, lease_s=60)
    worker.verifier.hand_over(job, some_scores(ticket))
    play(worker, 1)
    play(worker, 0)
    assert numbers(intake.next_batch(30)) == [0, 1], "the same batch: nothing was selected"
    assert (intake.counts.nonfinite, intake.counts.refunds["poison"]) == (1, 0)
    assert [letter["reason"] for letter in worker.desk.dead_letters()] == [
        "a behaviour log-probability that is not between -1000 and 0"
    ]


def hand_in(worker, wanted, change):
    """As ``play``, with responses of two turns that ``change`` has bent."""
    job = lease(worker, wanted)
    ticket = worker.rollout.ticket(job)
    sampled = change(two_turns(ticket))
    worker.rollout.hand_over(job, sampled)
    (job,) = worker.verifier.take(count=1, block_s=2, lease_s=60)
    scores = replace(some_scores(ticket), graded=sampled.fingerprint)
    worker.verifier.hand_over(job, scores)


def test_a_conversation_is_trained_and_the_ledger_says_what_was_observed(flow):
    intake, worker, ledger = flow
    for ticket in (0, 1):
        hand_in(worker, ticket, lambda sampled: sampled)
    groups = intake.next_batch(30)
    assert intake.counts.tokens_in == 12
    generated = end_step(intake, groups)
    assert (generated["generated/length_mean"], generated["generated/turns_mean"]) == (3.0, 1.5)
    assert (generated["generated/observed_share"], generated["reward/environment_mean"]) == (0.25, -0.125)
    assert generated["generated/solved_in_turns"] == 1.0, "the first of each group, which took two"
    intake.stop()
    lines = [line for line in read(ledger.path) if line["event"] == "trained"]
    assert [(line["observed"], line["lengths"], line["past_bound"]) for line in lines] == [
        ([[[2, 4]], []], [6, 2], 0)
    ] * 2
    assert audit(ledger.path, unfinished=True).trained == 2


def without(rows):
    return lambda sampled: replace(sampled, observed=np.array(rows, np.uint32).reshape(-1, 3))


def logprob(at, value):
    def change(sampled):
        logprobs_T = sampled.logprobs_T.copy()
        logprobs_T[at] = value
        return replace(sampled, logprobs_T=logprobs_T)

    return change


@pytest.mark.parametrize(
    ("change", "why", "nonfinite"),
    [
        (without([]), "a span 4..6 of response 0 that should start at 2", 0),
        (without([[0, 2, 3]]), "a span 4..6 of response 0 that should start at 3", 0),
        (without([[0, 2, 5]]), "a span 4..6 of response 0 that should start at 5", 0),
        (without([[0, 2, 4], [0, 5, 6]]), "observed tokens 5..6 of response 0, with 6 tokens", 0),
        (without([[0, 1, 2]]), "a span 4..6 of response 0 that should start at 2", 0),
        (lambda sampled: replace(sampled, spans=sampled.spans[[0, 2]]), "response 0 end at token 2 of 6", 0),
        (lambda sampled: replace(sampled, environment_S=np.array([np.nan, 0.0])), "rewards of the environment", 0),
        (logprob(2, -0.5), "a behaviour log-probability of an observed token, which nobody has sampled", 0),
        (logprob(4, np.nan), "a behaviour log-probability that is not between -1000 and 0", 1),
    ],
)
def test_damage_to_a_conversation_is_told_and_it_is_made_again(flow, change, why, nonfinite):
    intake, worker, _ = flow
    hand_in(worker, 0, change)
    for ticket in (1, 0):
        hand_in(worker, ticket, lambda sampled: sampled)
    assert numbers(intake.next_batch(30)) == [0, 1], "the same batch: nothing was selected"
    (letter,) = worker.desk.dead_letters()
    assert why in letter["reason"]
    assert intake.counts.nonfinite == nonfinite


def test_what_is_damaged_again_and_again_is_poison_and_work_goes_on(begin, wait_until):
    intake, worker, _ = begin("broker.max_attempts=2")
    for _ in range(2):
        play(worker, 0, spoil=b"garbage")
    wait_until(lambda: intake.counts.refunds["poison"] == 1, "the refund")
    assert (intake.counts.poisoned_in_a_row, intake.counts.poison) == (1, "lost or damaged on its way 2 times")
    play(worker, 1)
    play(worker, 2)
    assert numbers(intake.next_batch(30)) == [1, 2]
    assert intake.counts.poisoned_in_a_row == 0


def test_a_group_that_no_stream_names_any_more_is_made_again(flow, wait_until):
    intake, worker, _ = flow
    wait_until(lambda: worker.overview.depths()["prompts"] == 4, "the first tickets")
    (entry_id, _), *_ = worker.redis.xrange(worker.keys.prompts)
    worker.redis.xdel(worker.keys.prompts, entry_id)
    for ticket in (1, 0):
        play(worker, ticket)
    assert numbers(intake.next_batch(30)) == [0, 1]


def test_a_group_announced_twice_counts_once_and_keeps_its_payload(flow, wait_until):
    intake, worker, _ = flow
    play(worker, 0)
    wait_until(lambda: intake.depth()[1] == 1, "it is ready")
    worker.redis.xadd(worker.keys.scored, {"g": "0-1"})
    wait_until(lambda: worker.overview.depths()["scored"] == 1, "the second is turned away")
    assert worker.learner.scored_group("0-1") is not None
    play(worker, 1)
    assert numbers(intake.next_batch(30)) == [0, 1]


def test_anothers_payload_and_grades_of_other_responses_are_not_trained(flow):
    intake, worker, _ = flow
    job = lease(worker, 0)
    ticket = worker.rollout.ticket(job)
    worker.rollout.hand_over(job, some_responses(ticket, tokens_T=np.array([9, 2, 3, 4, 5], np.uint32)))
    anothers = worker.redis.get(worker.keys.group("0-1", "responses"))  # before the learner withdraws it
    (job,) = worker.verifier.take(count=1, block_s=2, lease_s=60)
    worker.verifier.hand_over(job, some_scores(ticket))
    play(worker, 1, spoil=anothers)
    for number in (0, 1):
        play(worker, number)
    assert numbers(intake.next_batch(30)) == [0, 1]
    reasons = {letter["reason"] for letter in worker.desk.dead_letters()}
    assert any("verdicts are of other responses" in reason for reason in reasons)
    assert any("of group 0-1, found under group 1-1" in reason for reason in reasons) or len(reasons) == 2


def test_weights_whose_manifest_a_worker_cannot_read_are_published_again(begin, wait_until):
    asked = []
    _, worker, _ = begin(repair=asked.append)
    worker.learner.dead_letter(LetterKind.DAMAGED, WEIGHTS, "", "the checksum does not match")
    wait_until(lambda: asked[-1:] == [None], "the request")


def test_spans_from_an_impossible_version_are_refused(begin, wait_until):
    intake, worker, _ = begin("broker.max_attempts=1")
    play(worker, 0, version=7)
    wait_until(lambda: intake.counts.refunds["poison"] == 1, "the refund")
    assert "version 7 is outside the possible 0..1" in worker.desk.dead_letters()[0]["reason"]


def test_a_timeout_trains_with_reward_0_and_an_error_never_trains(begin, wait_until):
    intake, worker, _ = begin("broker.max_attempts=1")
    play(worker, 0, kinds=(VerdictKind.CORRECT, VerdictKind.ERROR))
    wait_until(lambda: intake.counts.refunds["poison"] == 1, "the refund")
    play(worker, 1, kinds=(VerdictKind.TIMEOUT, VerdictKind.CORRECT))
    play(worker, 2)
    batch = intake.next_batch(30)
    assert numbers(batch) == [1, 2]
    assert batch[0].rewards_S.tolist() == [0.0, 1.0]


def test_a_group_given_up_is_refunded_as_poison(flow, wait_until):
    intake, worker, _ = flow
    job = lease(worker, 0)
    worker.on(job.stream).give_up(job, "no luck")
    wait_until(lambda: intake.counts.refunds["poison"] == 1, "the refund")


def test_turning_the_dial_down_refunds_what_is_too_old_and_the_books_still_close(flow, wait_until):
    intake, worker, ledger = flow
    for ticket in range(4):
        play(worker, ticket)
    wait_until(lambda: intake.depth() == (4, 4), "all are ready")
    first = intake.next_batch(30)
    worker.desk.set_control("max_staleness", "0")
    wait_until(lambda: intake.book.max_staleness == 0, "the dial")
    end_step(intake, first)  # the bound it was checked against was still 1
    assert intake.next_batch(0.3) is None
    assert intake.counts.refunds["expired"] == 2
    for ticket in (4, 5):
        play(worker, ticket, version=1)
    second = intake.next_batch(30)
    assert numbers(second) == [4, 5]
    end_step(intake, second)
    for ticket in (6, 7):
        play(worker, ticket, version=2)
    end_step(intake, intake.next_batch(30))
    intake.stop()
    intake.close_books()
    account = audit(ledger.path)
    assert (account.trained, account.refunded["expired"]) == (6, 2)
    assert [line["name"] for line in read(ledger.path) if line["event"] == "control"] == ["max_staleness"]


def test_no_ticket_is_issued_before_the_version_that_has_to_sample_it_stands(flow, wait_until):
    intake, worker, _ = flow
    for ticket in range(4):
        play(worker, ticket)
    intake.trained(intake.next_batch(30))
    assert numbers(intake.next_batch(30)) == [2, 3], "the next step begins meanwhile"
    worker.desk.set_control("pipeline_depth", "9")
    wait_until(lambda: intake.book.pipeline_depth == 9, "a turn of the pump")
    assert intake.book.next_ticket == 4
    intake.published("0")
    assert intake.book.next_ticket == 6
    assert intake.book.live[4].ticket.min_version == 1


def test_what_a_step_reports_counts_the_rejected_groups_too(flow, wait_until):
    intake, worker, _ = flow
    play(worker, 0, kinds=DULL)
    wait_until(lambda: intake.counts.refunds["zero_advantage"] == 1, "the refund")
    for ticket in (1, 2):
        play(worker, ticket)
    generated = end_step(intake, intake.next_batch(30))
    assert generated == {
        "reward/mean": 4 / 6,
        "generated/groups": 3,
        "generated/length_mean": 2.5,
        "generated/truncated_share": 0.0,
        "generated/seconds_mean": 0.5,
        "generated/grading_s_mean": 0.02,
        "solved/groups_0": 0,
        "solved/groups_1": 2,
        "solved/groups_2": 1,
        "solved/pass_at_1": pytest.approx(2 / 3),
        "solved/pass_at_2": 1.0,
        "solved/completed_share": 4 / 6,
        "verdict/correct/share": 4 / 6,
        "verdict/correct/length_mean": (3 + 2 + 3 + 3) / 4,
        "verdict/wrong/share": 2 / 6,
        "verdict/wrong/length_mean": 2.0,
    }


def test_only_a_checkpoint_lets_the_payloads_go(flow):
    intake, worker, _ = flow
    for ticket in (0, 1):
        play(worker, ticket)
    end_step(intake, intake.next_batch(30))
    assert worker.learner.scored_group("0-1") is not None
    intake.checkpointed()
    assert worker.learner.scored_group("0-1") is None
    assert worker.overview.depths()["scored"] == 0


def test_a_group_of_an_older_incarnation_is_turned_away(flow, wait_until):
    intake, worker, _ = flow
    worker.redis.xadd(worker.keys.scored, {"g": "0-0"})
    wait_until(lambda: intake.counts.orphaned == 1, "the orphan")
    wait_until(lambda: worker.overview.depths()["scored"] == 0, "it is turned away")


def overtake(intake, worker):
    """Ticket 0 is overtaken by the others in the first step; comes back, sampled by version 0, when v is 1."""
    for ticket in (1, 2):
        play(worker, ticket)
    first = intake.next_batch(30)
    assert numbers(first) == [1, 2]
    end_step(intake, first)
    play(worker, 3, version=1)
    play(worker, 0)
    worker.desk.set_control("max_staleness", "0")


@pytest.mark.parametrize(
    ("overflow", "second", "expired"), [("drop", [3, 4], 1), ("mask", [3, 4], 1), ("soft", [0, 3], 0)]
)
def test_policies_that_do_not_wait_differ_in_what_becomes_of_a_group_past_the_bound(
    begin, wait_until, overflow, second, expired
):
    intake, worker, ledger = begin(f"flow.overflow={overflow}")
    overtake(intake, worker)
    wait_until(lambda: intake.book.max_staleness == 0, "the dial")
    if expired:
        wait_until(lambda: intake.next_batch(0.1) is None and intake.counts.refunds["expired"] == 1, "the refund")
        assert intake.counts.tokens_expired == 5
        play(worker, 4, version=1)
    batch = intake.next_batch(30)
    assert numbers(batch) == second
    end_step(intake, batch)
    intake.stop()
    account = audit(ledger.path, unfinished=True)
    assert (account.violations, account.refunded["expired"]) == (1 - expired, expired)


def test_the_policy_is_a_live_control(begin, wait_until):
    intake, worker, ledger = begin()
    for ticket in (1, 2):
        play(worker, ticket)
    assert intake.next_batch(0.3) is None
    worker.desk.set_control("overflow", "drop")
    wait_until(lambda: intake.book.overflow == "drop", "the dial")
    assert numbers(intake.next_batch(30)) == [1, 2]
    (turned,) = [line for line in read(ledger.path) if line["event"] == "control"]
    assert (turned["name"], turned["value"], turned["previous"]) == ("overflow", "drop", "wait")


def test_the_pipeline_depth_is_a_live_control_and_survives_a_checkpoint(begin, wait_until):
    intake, worker, ledger = begin("flow.max_staleness=2")
    wait_until(lambda: intake.depth()[0] == 4, "two steps' worth of tickets, as long as nothing is measured")
    worker.desk.set_control("pipeline_depth", "5")
    wait_until(lambda: intake.depth()[0] == 5, "another ticket")
    worker.desk.set_control("pipeline_depth", "100")
    wait_until(lambda: intake.depth()[0] == 6, "every place of the bound")
    worker.desk.set_control("pipeline_depth", "2")
    wait_until(lambda: intake.book.pipeline_depth == 2, "the dial")
    for ticket in range(4):
        play(worker, ticket)
    for step, live in ((0, 4), (1, 2)):  # what is live stays live; nothing is issued until less than a batch is
        end_step(intake, intake.next_batch(30))
        assert (intake.book.version, intake.depth()[0]) == (step + 1, live)
    turned = [line["value"] for line in read(ledger.path) if line["event"] == "control"]
    assert turned == ["5", "100", "2"]
    state = intake.snapshot()
    assert make_book(compose(["tiny"], []), state).pipeline_depth == 2
    again = Pacer()
    again.restore(json.loads(json.dumps(state["pacing"])))
    assert again.steps == intake.lifecycle.pacer.steps
    intake.stop()
    assert audit(ledger.path, unfinished=True).version == 2


STAGES = "stages=[{from_step=1,groups_per_step=1,max_response_tokens=9,temperature=0.5}]"


def stages_live(intake):
    return [live.stage for live in list(intake.book.live.values())]  # the pump may issue meanwhile


def test_a_new_stage_is_issued_ahead_under_the_bound_and_no_batch_mixes_stages(begin, wait_until):
    intake, worker, ledger = begin(STAGES)
    wait_until(lambda: stages_live(intake) == [0, 0, 1], "the first tickets")
    for ticket in (2, 0):
        play(worker, ticket)
    assert intake.next_batch(0.3) is None
    play(worker, 1)
    first = intake.next_batch(30)
    assert numbers(first) == [0, 1]
    end_step(intake, first)
    (second,) = intake.next_batch(30)
    ticket = second.ticket
    assert (ticket.ticket, ticket.stage) == (2, 1)
    assert (ticket.max_new_tokens, ticket.temperature) == (9, 0.5)
    end_step(intake, [second])
    play(worker, 3, version=1)
    end_step(intake, intake.next_batch(30))
    intake.stop()
    intake.close_books()
    account = audit(ledger.path)
    assert (account.trained, account.refunded.total(), account.version) == (4, 0, 3)


def test_refunding_at_a_stages_end_gives_up_what_is_left_and_starts_empty(begin):
    intake, worker, ledger = begin(STAGES, 'flow.stage_change="refund"')
    for ticket in (0, 1, 3):
        play(worker, ticket)
    end_step(intake, intake.next_batch(30))
    assert intake.counts.refunds["stage_ended"] == 2
    assert stages_live(intake) == [1, 1]
    assert not worker.learner.holds("2-1")  # withdrawn: nobody generates it any more
    for ticket in (4, 5):
        play(worker, ticket, version=1)
        end_step(intake, intake.next_batch(30))
    intake.stop()
    intake.close_books()
    assert audit(ledger.path).refunded["stage_ended"] == 2


def test_a_group_is_judged_by_the_mask_and_the_kl_term_of_its_own_stage(begin, wait_until):
    intake, worker, _ = begin('stages=[{from_step=1,groups_per_step=1,kl_beta=0.1,kl_groups="all"}]')
    wait_until(lambda: stages_live(intake) == [0, 0, 1], "the first tickets")
    play(worker, 2, kinds=DULL)
    wait_until(lambda: intake.depth() == (4, 1), "a group without a signal is ready beside, and its place is free")
    play(worker, 0, kinds=DULL)
    wait_until(lambda: intake.counts.refunds["zero_advantage"] == 1, "in the stage before it is refunded")


def test_a_target_entropy_is_given_back_to_the_stages_and_the_ledger_has_both_turns(begin, wait_until):
    intake, worker, ledger = begin()
    assert intake.snapshot()["entropy_target"] == "stage"
    for value in ("0.3", "stage"):
        worker.desk.set_control("target_entropy", value)
        wait_until(lambda: intake.controls.texts()["target_entropy"] == value, "the turn")  # noqa: B023
    turns = [(line["previous"], line["value"]) for line in read(ledger.path) if line["event"] == "control"]
    assert turns == [("stage", 0.3), (0.3, "stage")]


def test_the_online_filter_drops_what_was_solved_every_time_in_the_stage_before(begin, wait_until):
    intake, worker, ledger = begin(
        "stages=[{from_step=1,online_filter=true}]", 'flow.stage_change="refund"', "flow.max_staleness=0"
    )
    play(worker, 0, kinds=DULL)
    solved = intake.lifecycle.curriculum.ticket(0, 0, min_version=0).prompt_id
    wait_until(lambda: intake.counts.refunds["zero_advantage"] == 1, "the refund")
    for ticket in (1, 2):
        play(worker, ticket)
    end_step(intake, intake.next_batch(30))
    (opened,) = [line for line in read(ledger.path) if line["event"] == "stage"]
    assert (opened["prompts"], opened["dropped"]) == (3, 1)
    since = opened["ticket"]
    later = {intake.lifecycle.curriculum.ticket(since + n, 1, min_version=1).prompt_id for n in range(30)}
    assert len(later) == 3
    assert solved not in later


def test_a_solved_prompt_is_dropped_at_the_next_look_and_the_ledger_says_from_which_ticket_on(begin, wait_until):
    intake, worker, ledger = begin("data.drop_solved=1", "flow.reconsider_every=1", "flow.max_staleness=0")
    play(worker, 0, kinds=DULL)
    wait_until(lambda: intake.counts.refunds["zero_advantage"] == 1, "the refund")
    for ticket in (1, 2):
        play(worker, ticket)
    end_step(intake, intake.next_batch(30))
    (looked,) = [line for line in read(ledger.path) if line["event"] == "sampling"]
    issued = {line["ticket"]: line["prompt"] for line in read(ledger.path) if line["event"] == "issued"}
    assert (looked["ticket"], looked["version"], looked["dropped"]) == (3, 1, [issued[0]])
    again = intake.snapshot()
    assert again["asked"] == {"3": issued[3], "4": issued[4]}
    assert again["curriculum"]["difficulty"]["often"] == {issued[0]: 0.0}
    for step, tickets in enumerate([(3, 4), (5, 6)], start=1):
        for ticket in tickets:
            play(worker, ticket, version=step)
        end_step(intake, intake.next_batch(30))
    intake.stop()
    intake.close_books()
    issued = {line["ticket"]: line["prompt"] for line in read(ledger.path) if line["event"] == "issued"}
    assert issued[0] not in [issued[ticket] for ticket in range(3, 7)]
    assert audit(ledger.path).trained == 6


def test_the_curriculum_hears_of_a_straggler_that_came_in_while_a_later_group_was_trained(begin, wait_until):
    intake, worker, _ = begin("flow.overflow=soft")
    seen, curriculum = [], intake.lifecycle.curriculum
    curriculum.saw = lambda ticket, rewards_S: seen.append(ticket.prompt_id)
    for ticket in (1, 2):
        play(worker, ticket)
    batch = intake.next_batch(30)
    play(worker, 0)
    wait_until(lambda: intake.depth()[1] == 3, "it comes in during the step, which reports it")
    assert end_step(intake, batch)["generated/groups"] == 3
    play(worker, 3)
    second = intake.next_batch(30)
    assert numbers(second) == [0, 3]
    end_step(intake, second)
    assert seen == [group.ticket.prompt_id for group in (*batch, *second)]


def test_the_prompt_of_a_poisoned_ticket_is_asked_again_under_a_new_one_and_the_books_close(begin, wait_until):
    intake, worker, ledger = begin("broker.max_attempts=1")
    play(worker, 0, spoil=b"garbage")
    wait_until(lambda: intake.counts.refunds["poison"] == 1 and intake.depth()[0] == 4, "the refund, its place filled")
    assert worker.desk.retry(["0-1", "7-1"]) == ["0-1", "7-1"]  # the second was never poisoned
    wait_until(lambda: intake.snapshot()["retries"]["waiting"] != {}, "the request")
    for step, tickets in enumerate([(1, 2), (3, 4), (5, 6)]):
        for ticket in tickets:
            play(worker, ticket, version=step)
        end_step(intake, intake.next_batch(30))
    intake.stop()
    intake.close_books()
    issued = {line["ticket"]: line for line in read(ledger.path) if line["event"] == "issued"}
    assert [number for number, line in issued.items() if "retry_of" in line] == [5]
    assert (issued[5]["retry_of"], issued[5]["prompt"]) == ("0-1", issued[0]["prompt"])
    assert worker.desk.retries() == {"0-1": "5", "7-1": ""}
    assert audit(ledger.path).trained == 6


def test_a_redis_that_comes_back_empty_gets_everything_back_and_the_books_close(begin, wait_until, make_bus):
    restored, desk = [], make_bus("desk").desk  # the pump may ask for a repair before ``begin`` returns
    intake, worker, ledger = begin(repair=lambda _: restored.append(desk.has_run()))
    play(worker, 0)
    wait_until(lambda: intake.depth() == (4, 1), "ticket 0 is ready")
    held = lease(worker, 1)
    ticket = worker.rollout.ticket(held)
    worker.desk.set_control("paused", "1")
    wait_until(lambda: intake.snapshot() and intake.book.paused, "the pause")
    worker.desk.clean()
    wait_until(lambda: worker.overview.depths()["prompts"] == 3, "the three that are not ready")
    assert restored[-1] is True
    assert worker.overview.controls() == {
        "max_staleness": "1", "overflow": "wait", "pipeline_depth": "auto", "target_entropy": "stage", "paused": "1",
        "learning_rate": "stage",
    }  # fmt: skip
    worker.desk.set_control("paused", "0")
    lease.held.clear()
    worker.rollout.hand_over(held, some_responses(ticket))  # taken before, and not in vain
    for _ in range(3):
        (job,) = worker.rollout.take(count=1, block_s=2, lease_s=60)
        worker.rollout.hand_over(job, some_responses(worker.rollout.ticket(job)))
    jobs = worker.verifier.take(count=9, block_s=2, lease_s=60)
    assert sorted(job.group_id for job in jobs) == ["1-1", "2-1", "3-1"], "a second hand-over of a group counts nothing"
    for job in jobs:
        worker.verifier.hand_over(job, some_scores(worker.verifier.responses(job)[0], MIXED))
    for step, tickets in enumerate([(0, 1), (2, 3), (4, 5)]):
        for number in tickets if step == 2 else ():
            play(worker, number, version=step)
        batch = intake.next_batch(30)
        assert numbers(batch) == list(tickets)
        end_step(intake, batch)
    intake.stop()
    intake.close_books()
    assert audit(ledger.path).trained == 6


def test_a_scored_group_whose_announcement_was_lost_on_the_way_is_taken_in(flow, wait_until):
    intake, worker, _ = flow
    read, asked = intake.queue.scored, []
    intake.queue.scored = lambda **_: asked.append(1) or []  # as if the connection broke after the server's answer
    wait_until(lambda: asked != [], "the reading before that is over")
    play(worker, 0)
    wait_until(lambda: read(count=9, block_s=0.1) != [], "the answer that nobody got")
    wait_until(lambda: intake.depth() == (4, 1), "ticket 0 is ready")


def test_a_group_that_is_ready_keeps_its_payload_when_a_late_worker_gives_it_up(flow, wait_until):
    intake, worker, _ = flow
    late = lease(worker, 0)
    ticket = worker.rollout.ticket(late)
    worker.rollout.hand_over(late, some_responses(ticket))
    (job,) = worker.verifier.take(count=1, block_s=2, lease_s=60)
    worker.verifier.hand_over(job, some_scores(ticket))
    wait_until(lambda: intake.depth()[1] == 1, "it is ready")
    worker.on(late.stream).give_up(late, "out of memory")
    play(worker, 1)
    wait_until(lambda: intake.depth()[1] == 2, "what came after the letter is ready too")
    assert worker.learner.scored_group("0-1") is not None
    assert intake.counts.refunds["poison"] == 0


def test_a_worker_that_cannot_read_the_newest_weights_has_them_written_again(begin, wait_until):
    asked = []
    _, worker, _ = begin(repair=lambda stamp: asked.append(stamp) or True)
    worker.weights.tell_unreadable(3, 1)
    wait_until(lambda: (1, 3) in asked, "the request")
    wait_until(lambda: worker.learner.asked(1).unreadable is None, "it is taken off")


def test_under_an_injected_lag_every_group_is_exactly_so_old(begin, wait_until):
    intake, worker, ledger = begin("flow.max_staleness=5", "flow.inject_lag=1")
    for version, (first, second) in enumerate([(0, 1), (2, 3), (4, 5)]):
        sampled_by = max(0, version - 1)
        for ticket in (first, second):
            play(worker, ticket, version=sampled_by)
        batch = intake.next_batch(30)
        assert [group.ticket.min_version for group in batch] == [sampled_by] * 2
        assert len(intake.book.live) == 2  # nothing is issued ahead
        end_step(intake, batch)
    intake.stop()
    intake.close_books()
    account = audit(ledger.path)
    assert (account.staleness_sum, account.worst_staleness) == (4, 1)


def test_under_an_injected_lag_a_younger_group_is_refused(begin, wait_until):
    intake, worker, _ = begin("flow.max_staleness=1", "flow.inject_lag=1", "broker.max_attempts=1")
    play(worker, 0, version=1)  # possible without a lag: the newest version is published just before its step is closed
    wait_until(lambda: intake.counts.refunds["poison"] == 1, "the refund")


def test_the_guard_turns_the_bound_down_and_back_and_the_ledger_has_it(begin, wait_until):
    intake, worker, ledger = begin("flow.least_ess=0.5", "flow.guard_patience=1", "flow.max_staleness=1")
    for ticket in range(4):
        play(worker, ticket)
    wait_until(lambda: intake.depth() == (4, 4), "all are ready")
    end_step(intake, intake.next_batch(30), ess=0.4)
    assert (intake.book.max_staleness, sorted(intake.book.live)) == (0, [2, 3])
    again = intake.snapshot()
    assert (again["max_staleness"], again["asked_bound"], again["guard"]) == (0, 1, {"lowered": 1, "calm": 0})
    assert intake.next_batch(0.1) is None  # sampled by version 0, they are too old now
    assert (intake.counts.refunds["expired"], sorted(intake.book.live)) == (2, [4, 5])
    for ticket in (4, 5):
        play(worker, ticket, version=1)
    end_step(intake, intake.next_batch(30), ess=0.9)
    assert (intake.book.max_staleness, sorted(intake.book.live)) == (1, [6, 7])  # the run's last step
    worker.desk.set_control("max_staleness", "0")
    wait_until(lambda: intake.book.max_staleness == 0, "the dial")
    intake.stop()
    turned = [(line["value"], line["by"]) for line in read(ledger.path) if line["event"] == "control"]
    assert turned == [(0, "guard"), (1, "guard"), (0, "operator")]
    assert audit(ledger.path, unfinished=True).version == 2


class HalfLost(Idling):
    """Both sides lose half of every step."""

    def cycle(self, now):
        return Cycle(10.0, 5.0, 5.0, 0)


def test_a_bound_that_is_auto_turns_in_the_ledger_and_yields_to_the_dial(begin, wait_until):
    settings = ("flow.max_staleness=auto", "flow.staleness_period=2", "flow.staleness_ceiling=1", "train.steps=9")
    intake, worker, ledger = begin(*settings)

    def a_step(**measured):
        wait_until(lambda: len(intake.book.live) >= 2, "the tickets")
        for ticket in sorted(intake.book.live)[:2]:
            play(worker, ticket, version=intake.book.live[ticket].ticket.min_version)
        end_step(intake, intake.next_batch(30), **measured)

    assert (intake.book.max_staleness, intake.book.depth) == (0, 2)
    intake.lifecycle.pacer.idling = HalfLost()
    for _ in range(3):
        assert intake.book.max_staleness == 0
        a_step()
    again = intake.snapshot()
    assert (again["max_staleness"], again["asked_bound"], len(again["auto_bound"]["gains"])) == (1, "auto", 1)
    intake.controls.auto.gains.clear()
    intake.restore(again)
    assert intake.controls.auto.bound == 1
    assert intake.controls.texts()["max_staleness"] == "auto"
    worker.desk.set_control("pipeline_depth", "2")
    wait_until(lambda: intake.book.max_staleness == 0, "the end of a trial that was cut off")
    worker.desk.set_control("max_staleness", "2")
    wait_until(lambda: intake.book.max_staleness == 2, "the dial")
    a_step(ess=0.01)
    assert intake.book.max_staleness == 2
    worker.desk.set_control("max_staleness", "auto")
    wait_until(lambda: intake.book.max_staleness == 1, "the ceiling")
    intake.stop()
    turned = [(line["name"], line["value"], line["by"]) for line in read(ledger.path) if line["event"] == "control"]
    assert turned == [
        ("max_staleness", 1, "auto"),
        ("pipeline_depth", "2", "operator"),
        ("max_staleness", 0, "auto"),
        ("asked_bound", "2", "operator"),
        ("max_staleness", 2, "operator"),
        ("asked_bound", "auto", "operator"),
        ("max_staleness", 1, "operator"),
    ]
    assert audit(ledger.path, unfinished=True).max_staleness == 1


def test_the_learning_rate_is_a_live_control_for_every_stage_and_survives_a_checkpoint(begin, wait_until):
    intake, worker, ledger = begin()
    assert intake.controls.learning_rate == "stage"
    for value in ("0.0003", "stage", "2e-05"):
        worker.desk.set_control("learning_rate", value)
        wait_until(lambda wanted=value: str(intake.controls.learning_rate) == wanted, "the dial")
    intake.stop()
    lines = [line for line in read(ledger.path) if line["event"] == "control"]
    turned = [(line["name"], line["previous"], line["value"]) for line in lines]
    assert turned == [("learning_rate", *each) for each in (("stage", 0.0003), (0.0003, "stage"), ("stage", 2e-05))]
    config = compose(["tiny"], ["train.learning_rate=1e-4", "train.steps=8", "train.schedule=linear"])
    turns = {"target": 0.2, "bound": 1, "overflow": "wait"}
    for rate, expected in ((2e-05, 1.1e-05), ("stage", 5.5e-05)):
        settings = settings_at(config, 0, turns | {"learning_rate": rate})
        assert learning_rate(settings, 0) == settings.train.learning_rate == (rate if rate != "stage" else 1e-4)
        halfway = [learning_rate(settings, step) for step in (3, 4)]
        assert sum(halfway) / 2 == pytest.approx(expected), "the schedule multiplies what the operator has set"
    state = json.loads(json.dumps(intake.snapshot()))
    assert state["learning_rate"] == 2e-05
    intake.controls.learning_rate = "stage"
    intake.restore(state)
    assert (intake.controls.learning_rate, intake.controls.texts()["learning_rate"]) == (2e-05, "2e-05")
    assert audit(ledger.path, unfinished=True).version == 0
