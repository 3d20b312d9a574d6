"""An audit passes on an honest ledger and names the line of any other."""

import json
import subprocess
import sys

import pytest
from leeway_rl.common.errors import AuditError, DataError
from leeway_rl.common.ledger import Ledger, is_complete, read
from leeway_rl.leeway.proving.audit import audit


def issue(ledger, ticket, version, *, incarnation=1, reissued=False, stage=0):
    ledger.write(
        "issued", ticket=ticket, incarnation=incarnation, version=version, stage=stage, prompt="p:1", reissued=reissued
    )


def take(ledger, number, tickets, bound=1, overflow="wait"):
    ledger.write("batch", step=number, tickets=tickets, max_staleness=bound, overflow=overflow)


def train(ledger, ticket, step, version, *, newest=None, past=0):
    """The second response by ``newest``, where that is another version than the first's."""
    ledger.write(
        "trained",
        ticket=ticket,
        step=step,
        spans=[[[version, 0, 3]], [[version if newest is None else newest, 0, 2]]],
        verdicts=["correct", "wrong"],
        lengths=[3, 2],
        head_staleness=step - version,
        past_bound=past,
    )


def step(ledger, number, tickets, bound=1, overflow="wait", published=True):
    ledger.write("step", step=number, version=number + 1, tickets=tickets, max_staleness=bound, overflow=overflow)
    if published:
        ledger.write("published", version=number + 1, checksum="0")


def begin(path, bound=1, sizes=(2,), change="finish", overflow="wait", lag=0):
    """Stages of one training step each, the last to the end."""
    ledger = Ledger(path)
    stages = [{"from_step": n, "groups_per_step": size, "group_size": 2} for n, size in enumerate(sizes)]
    rules = {"max_staleness": bound, "overflow": overflow, "inject_lag": lag, "stage_change": change}
    ledger.write("run", run="r", seed=0, steps=2, stages=stages, **rules)
    ledger.write("started", incarnation=1, version=0)
    return ledger


@pytest.fixture
def honest(tmp_path):
    """Two steps at bound 1, one refund, one rollback of the second step."""
    ledger = begin(tmp_path / "ledger.jsonl")
    for ticket in range(4):
        issue(ledger, ticket, 0)
    ledger.write("refunded", ticket=1, version=0, reason="zero_advantage")
    issue(ledger, 4, 0)
    take(ledger, 0, [0, 2])
    train(ledger, 0, 0, 0)
    train(ledger, 2, 0, 0)
    step(ledger, 0, [0, 2])
    kept = ledger.line
    ledger.write("checkpoint", step=1)
    take(ledger, 1, [3, 4])
    train(ledger, 3, 1, 0)
    train(ledger, 4, 1, 0)
    step(ledger, 1, [3, 4])
    ledger.write("rolled_back", to_line=kept)
    ledger.write("started", incarnation=2, version=1)
    issue(ledger, 3, 1, incarnation=2, reissued=True)
    issue(ledger, 4, 1, incarnation=2, reissued=True)
    take(ledger, 1, [3, 4])
    ledger.write("control", name="max_staleness", value=0, previous=1, version=1)  # too late for this batch
    train(ledger, 3, 1, 1)
    train(ledger, 4, 1, 1)
    step(ledger, 1, [3, 4])
    ledger.write("end", version=2)
    ledger.close()
    return ledger.path


def test_an_honest_ledger_passes(honest):
    account = audit(honest)
    assert (account.trained, account.refunded["zero_advantage"], account.version) == (4, 1, 2)
    assert account.undone == 6
    assert "audit passed" in account.describe()


def test_a_batch_may_be_taken_before_the_version_of_the_step_before_is_published(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl")
    for ticket in range(4):
        issue(ledger, ticket, 0)
    one_step(ledger)
    take(ledger, 1, [2, 3])
    ledger.write("published", version=1, checksum="0")
    for ticket in (2, 3):
        train(ledger, ticket, 1, 0)
    step(ledger, 1, [2, 3])
    ledger.write("end", version=2)
    ledger.close()
    assert audit(ledger.path).trained == 4


def test_an_older_leeways_step_was_published_when_its_line_was_written(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl", bound=0)
    for ticket in range(2):
        issue(ledger, ticket, 0)
    take(ledger, 0, [0, 1], bound=0)
    for ticket in range(2):
        train(ledger, ticket, 0, 0)
    rule = {"max_staleness": 0, "overflow": "wait"}
    ledger.write("step", step=0, version=1, tickets=[0, 1], checksum="0", **rule)
    issue(ledger, 2, 1)
    ledger.close()
    assert len(audit(ledger.path, unfinished=True).live) == 1


def conversed(tmp_path, spans, observed, overflow="wait"):
    """The audit of one step, whose group has these spans and observed tokens. Under ``mask`` another step comes after
    it, which trains the like past the bound."""
    ledger = begin(tmp_path / "ledger.jsonl", sizes=(1,), overflow=overflow)
    steps = 2 if overflow == "mask" else 1
    for ticket in range(steps):
        issue(ledger, ticket, 0)
    for number in range(steps):
        if number:
            ledger.write("control", name="max_staleness", value=0, previous=1, version=1)
        take(ledger, number, [number], 1 - number, overflow)
        ledger.write(
            "trained",
            ticket=number,
            step=number,
            spans=spans,
            verdicts=["correct", "wrong"],
            lengths=[6, 2],
            head_staleness=number,
            past_bound=6 * number,
            **({} if observed is None else {"observed": observed}),
        )
        step(ledger, number, [number], 1 - number, overflow)
    ledger.close()
    return audit(ledger.path, unfinished=True)


TWO_TURNS = [[[0, 0, 2], [0, 4, 6]], [[0, 0, 2]]]


def test_sampled_and_observed_tokens_cover_a_response_together(tmp_path):
    assert conversed(tmp_path, TWO_TURNS, [[[2, 4]], []]).trained == 1


@pytest.mark.parametrize(
    ("spans", "observed", "why"),
    [
        (TWO_TURNS, None, "spans of response 0 leave a gap at token 2"),
        (TWO_TURNS, [[[2, 3]], []], "spans of response 0 leave a gap at token 3"),
        (TWO_TURNS, [[[2, 5]], []], "spans of response 0 leave a gap at token 5"),
        (TWO_TURNS, [[], [[2, 4]]], "spans of response 0 leave a gap at token 2"),
        (TWO_TURNS, [[[2, 4]], [[1, 2]]], "observed tokens of response 1 lie among sampled ones"),
        ([[[0, 0, 6]], [[0, 0, 2]]], [[[2, 4]], []], "observed tokens of response 0 lie among sampled ones"),
        ([[[0, 0, 2]], [[0, 0, 2]]], [[[2, 6]], []], "spans of response 0 cover 2 of 6 tokens"),
        (TWO_TURNS, [[[2, 4]]], "observed tokens of 1 response in a group of 2"),
    ],
)
def test_a_wrong_tiling_by_sampled_and_observed_tokens_is_named(tmp_path, spans, observed, why):
    with pytest.raises(AuditError, match=why):
        conversed(tmp_path, spans, observed)


def test_under_mask_a_group_needs_a_sampled_token_within_the_bound(tmp_path):
    with pytest.raises(AuditError, match="ticket 1 has no token within the bound"):
        conversed(tmp_path, TWO_TURNS, [[[2, 4]], []], overflow="mask")


def test_any_line_removed_is_named(honest):
    lines = honest.read_text().splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        honest.write_text("".join(lines[: number - 1] + lines[number:]))
        with pytest.raises(AuditError, match=rf"line {number} is missing"):
            audit(honest)


def test_any_line_duplicated_is_named(honest):
    lines = honest.read_text().splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        honest.write_text("".join(lines[:number] + lines[number - 1 :]))
        with pytest.raises(AuditError, match=rf":{number + 1}: line {number} stands twice"):
            audit(honest)


def test_any_version_changed_is_named(honest):
    lines = honest.read_text().splitlines()
    changed = 0
    for number, text in enumerate(lines, start=1):
        body = json.loads(text)
        if "version" not in body:
            continue
        body["version"] += 1
        honest.write_text("\n".join([*lines[: number - 1], json.dumps(body), *lines[number:]]) + "\n")
        with pytest.raises(AuditError, match=rf"line {number} was changed"):
            audit(honest)
        changed += 1
    assert changed > 5


def one_step(ledger, number=0):
    """A step whose version is not published."""
    tickets = [2 * number, 2 * number + 1]
    take(ledger, number, tickets)
    for ticket in tickets:
        train(ledger, ticket, number, 0)
    step(ledger, number, tickets, published=False)


def forged(path, write):
    """A ledger whose chain is whole but whose story is not."""
    ledger = begin(path)
    for ticket in range(4):
        issue(ledger, ticket, 0)
    write(ledger)
    ledger.close()
    return path


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (lambda ledger: issue(ledger, 4, 0), "issued while 4 of stage 0 are live"),
        (lambda ledger: issue(ledger, 9, 0), "out of order"),
        (lambda ledger: (one_step(ledger), issue(ledger, 4, 1)), "ticket 4 is issued before version 1 is published"),
        (lambda ledger: (one_step(ledger), ledger.write("checkpoint", step=1)), "comes before version 1 is published"),
        (lambda ledger: (one_step(ledger), ledger.write("end", version=1)), "comes before version 1 is published"),
        (lambda ledger: (one_step(ledger), one_step(ledger, 1)), "step 1 ends before version 1 is published"),
        (
            lambda ledger: ledger.write("published", version=0, checksum="0"),
            "publishes version 0, the books",
        ),
        (
            lambda ledger: (one_step(ledger), ledger.write("published", version=2, checksum="0")),
            "publishes version 2, the books stand at 1",
        ),
        (lambda ledger: (take(ledger, 0, [0, 1]), train(ledger, 0, 0, 0), train(ledger, 0, 0, 0)), "trained twice"),
        (lambda ledger: train(ledger, 0, 0, 0), "not in the step's batch"),
        (lambda ledger: take(ledger, 0, [1, 2]), "the oldest live ones are"),
        (lambda ledger: take(ledger, 0, [0, 1], bound=3), "the controls say 1"),
        (lambda ledger: train(ledger, 7, 0, 0), "ticket 7 is trained but not live$"),
        (
            lambda ledger: (ledger.write("refunded", ticket=0, version=0, reason="expired"), train(ledger, 0, 0, 0)),
            "not live any more: it was trained or refunded before",
        ),
        (lambda ledger: ledger.write("rolled_back", to_line=99), "goes back to line 99, which is not before it"),
        (lambda ledger: ledger.write("rolled_back", to_line=7), "goes back to line 7, which is not before it"),
        (lambda ledger: ledger.write("refunded", ticket=0, version=0), "has no 'reason': another version of Leeway"),
        (lambda ledger: train(ledger, 0, 1, 0), "the books stand at 0"),
        (lambda ledger: (take(ledger, 0, [0, 1]), train(ledger, 0, 0, 0), step(ledger, 0, [0])), "names tickets"),
        (lambda ledger: ledger.write("refunded", ticket=0, version=0, reason="mood"), "unknown reason"),
        (lambda ledger: ledger.write("end", version=0), "unaccounted for"),
        (lambda ledger: ledger.write("surprise"), "unknown event"),
        (lambda ledger: issue(ledger, 0, 0, reissued=True), "without a rollback"),
    ],
)
def test_a_whole_chain_with_a_false_story_is_named(tmp_path, write, complaint):
    with pytest.raises(AuditError, match=complaint):
        audit(forged(tmp_path / "ledger.jsonl", write))


def long(path, steps):
    """Bound 0, two groups a step; ten steps are made twice, the second time by another learner."""
    ledger = Ledger(path)
    rules = {"max_staleness": 0, "overflow": "wait", "inject_lag": 0, "stage_change": "finish"}
    stages = [{"from_step": 0, "groups_per_step": 2, "group_size": 2}]
    ledger.write("run", run="r", seed=0, steps=steps, stages=stages, **rules)
    ledger.write("started", incarnation=1, version=0)
    incarnation = 1
    for version in range(steps):
        tickets, kept = [2 * version, 2 * version + 1], ledger.line
        for again in (True, False) if version % (steps // 10) == 9 else (False,):
            for ticket in tickets:
                issue(ledger, ticket, version, incarnation=incarnation)
            take(ledger, version, tickets, bound=0)
            for ticket in tickets:
                train(ledger, ticket, version, version)
            step(ledger, version, tickets, bound=0)
            if again:
                incarnation += 1
                ledger.write("rolled_back", to_line=kept)
                ledger.write("started", incarnation=incarnation, version=version)
    ledger.write("end", version=steps)
    ledger.close()
    return path


PEAKS = """
import sys, tracemalloc
from pathlib import Path
from leeway_rl.leeway.proving.audit import audit
for path in map(Path, sys.argv[1:]):
    audit(path)  # what Python and its modules keep from a first time is there before it is measured
    tracemalloc.start()
    account = audit(path)
    print(tracemalloc.get_traced_memory()[1], account.trained, account.version, account.incarnation)
    tracemalloc.stop()
"""
"""Prints the bytes that are held at most while a ledger is audited, and some of its account. It runs in a process of
its own, because ``tracemalloc`` counts what other threads take too."""


def test_an_audit_holds_no_more_of_a_long_ledger_than_of_a_short_one(tmp_path):
    paths = [long(tmp_path / "short.jsonl", 200), long(tmp_path / "long.jsonl", 2_000)]
    ran = subprocess.run([sys.executable, "-c", PEAKS, *paths], capture_output=True, text=True, check=True)
    (of_short, *_), (of_long, *account) = [list(map(int, line.split())) for line in ran.stdout.splitlines()]
    assert account == [4_000, 2_000, 11]
    assert of_long < 1.3 * of_short


def test_stages_are_audited_each_by_its_own_sizes(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl", sizes=(2, 1))
    for ticket in (0, 1):
        issue(ledger, ticket, 0)
    ledger.write("stage", stage=1, version=0, prompts=4, dropped=0)
    issue(ledger, 2, 0, stage=1)
    for number, tickets in ((0, [0, 1]), (1, [2])):
        take(ledger, number, tickets)
        for ticket in tickets:
            train(ledger, ticket, number, 0)
        step(ledger, number, tickets)
    ledger.write("end", version=2)
    ledger.close()
    assert "3 in 2 steps of 2, then 1, each once" in audit(ledger.path).describe()


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        (lambda ledger: issue(ledger, 2, 0, stage=1), "which is not open"),
        (lambda ledger: ledger.write("stage", stage=2, version=0, prompts=4, dropped=0), "opens out of order"),
        (lambda ledger: issue(ledger, 2, 0), "2 of stage 0 are live, the bound allows 2"),
        (lambda ledger: ledger.write("refunded", ticket=0, version=0, reason="stage_ended"), "has not ended"),
        (lambda ledger: take(ledger, 0, [0]), "the oldest live ones are"),
    ],
)
def test_a_false_story_about_stages_is_named(tmp_path, write, complaint):
    ledger = begin(tmp_path / "ledger.jsonl", sizes=(2, 1))
    for ticket in (0, 1):
        issue(ledger, ticket, 0)
    write(ledger)
    ledger.close()
    with pytest.raises(AuditError, match=complaint):
        audit(ledger.path)


def test_a_group_past_the_bound_is_named(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl", bound=0)
    for ticket in range(2):
        issue(ledger, ticket, 0)
    take(ledger, 0, [0, 1], bound=0)
    train(ledger, 0, 0, 0)
    train(ledger, 1, 0, 0)
    step(ledger, 0, [0, 1], bound=0)
    issue(ledger, 2, 1)
    issue(ledger, 3, 1)
    take(ledger, 1, [2, 3], bound=0)
    ledger.write(
        "trained",
        ticket=2,
        step=1,
        spans=[[[0, 0, 3]], [[1, 0, 2]]],
        verdicts=["wrong"] * 2,
        lengths=[3, 2],
        head_staleness=1,
        past_bound=3,
    )
    ledger.close()
    with pytest.raises(AuditError, match=r"version 0 of response 0 outside 1..1"):
        audit(ledger.path)


def overtaken(path, overflow, *, newest, past):
    """At bound 0: tickets 0 and 3 of version 0; 3 overtaken, and trained in the second step all the same."""
    ledger = begin(path, bound=0, overflow=overflow)
    for ticket in (0, 1):
        issue(ledger, ticket, 0)
    ledger.write("control", name="max_staleness", value=1, previous=0, version=0)
    for ticket in (2, 3):
        issue(ledger, ticket, 0)
    ledger.write("control", name="max_staleness", value=0, previous=1, version=0)
    take(ledger, 0, [0, 2], bound=0, overflow=overflow)
    train(ledger, 0, 0, 0)
    train(ledger, 2, 0, 0)
    step(ledger, 0, [0, 2], bound=0, overflow=overflow)
    take(ledger, 1, [1, 3], bound=0, overflow=overflow)
    train(ledger, 1, 1, 1)
    train(ledger, 3, 1, 0, newest=newest, past=past)
    step(ledger, 1, [1, 3], bound=0, overflow=overflow)
    ledger.write("end", version=2)
    ledger.close()
    return path


def test_ready_groups_may_overtake_where_the_policy_says_so(tmp_path):
    masked = audit(overtaken(tmp_path / "mask.jsonl", "mask", newest=1, past=3))
    assert "the bound held at every step, 3 tokens past it left out of the loss" in masked.describe()
    soft = audit(overtaken(tmp_path / "soft.jsonl", "soft", newest=0, past=5))
    assert "1 group trained past the bound (soft)" in soft.describe()


@pytest.mark.parametrize(
    ("overflow", "newest", "past", "complaint"),
    [
        ("wait", 1, 3, "the oldest live ones are"),
        ("drop", 1, 3, "ticket 3 is 1 version stale, the bound is 0"),
        ("mask", 1, 2, "2 tokens past the bound, its spans say 3"),
        ("mask", 0, 5, "ticket 3 has no token within the bound"),
    ],
)
def test_what_a_policy_does_not_allow_is_named(tmp_path, overflow, newest, past, complaint):
    with pytest.raises(AuditError, match=complaint):
        audit(overtaken(tmp_path / "ledger.jsonl", overflow, newest=newest, past=past))


def test_a_ledger_without_its_end_is_told_apart(honest):
    lines = honest.read_text().splitlines(keepends=True)
    honest.write_text("".join(lines[:-1]))
    with pytest.raises(AuditError, match="--unfinished"):
        audit(honest)
    assert audit(honest, unfinished=True).version == 2


def test_a_torn_last_line_is_cut_and_the_chain_goes_on(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl")
    ledger.close()
    with ledger.path.open("a") as file:
        file.write('{"line": 3, "event": "iss')
    assert not is_complete(tmp_path)
    assert audit(ledger.path, unfinished=True).lines == 2
    again = Ledger(ledger.path)
    issue(again, 0, 0)
    again.close()
    assert [line["event"] for line in read(ledger.path)] == ["run", "started", "issued"]


def test_an_end_that_is_torn_is_no_end(honest):
    honest.write_text(honest.read_text().removesuffix("\n"))
    assert not is_complete(honest.parent)
    with pytest.raises(AuditError, match="has no end"):
        audit(honest)


def test_a_missing_ledger_is_named(tmp_path):
    with pytest.raises(DataError, match="no ledger there"):
        audit(tmp_path / "none.jsonl")


@pytest.mark.parametrize(("version", "wrong"), [(0, None), (1, "version 1 of response 0 outside 0..0")])
def test_an_injected_lag_leaves_no_choice_of_version(tmp_path, version, wrong):
    ledger = begin(tmp_path / "ledger.jsonl", sizes=(1,), lag=1)
    issue(ledger, 0, 0)
    take(ledger, 0, [0])
    train(ledger, 0, 0, 0)
    step(ledger, 0, [0])
    issue(ledger, 1, 1)
    take(ledger, 1, [1])
    train(ledger, 1, 1, version)
    step(ledger, 1, [1])
    ledger.write("end", version=2)
    ledger.close()
    if wrong is None:
        assert audit(ledger.path).staleness_sum == 1
    else:
        with pytest.raises(AuditError, match=wrong):
            audit(ledger.path)


def scored(path, verdicts, **rewards):
    """A ledger whose only trained group has these verdicts and rewards."""
    ledger = begin(path, sizes=(1,))
    issue(ledger, 0, 0)
    take(ledger, 0, [0])
    ledger.write(
        "trained",
        ticket=0,
        step=0,
        spans=[[[0, 0, 3]], [[0, 0, 2]]],
        verdicts=verdicts,
        **rewards,
        lengths=[3, 2],
        head_staleness=0,
        past_bound=0,
    )
    ledger.close()
    return path


def test_rewards_that_are_numbers_of_their_own_pass(tmp_path):
    account = audit(scored(tmp_path / "l.jsonl", ["scored", "correct"], rewards=[-0.25, 1.0]), unfinished=True)
    assert account.trained == 1


@pytest.mark.parametrize(
    ("verdicts", "rewards", "wrong"),
    [
        (["scored", "correct"], {}, "scored responses and no rewards"),
        (["scored", "correct"], {"rewards": [0.5]}, "not 2 finite numbers"),
        (["scored", "correct"], {"rewards": [float("nan"), 1.0]}, "not 2 finite numbers"),
        (["scored", "correct"], {"rewards": ["0.5", 1.0]}, "not 2 finite numbers"),
        (["scored", "wrong"], {"rewards": [0.5, 0.5]}, "a reward of 0.5 where the verdict is 'wrong'"),
        (["error", "correct"], {}, "trained with a verdict 'error'"),
    ],
)
def test_rewards_that_the_verdicts_deny_are_named(tmp_path, verdicts, rewards, wrong):
    with pytest.raises(AuditError, match=wrong):
        audit(scored(tmp_path / "l.jsonl", verdicts, **rewards), unfinished=True)


def look(ledger, ticket, *dropped, version=0):
    ledger.write("sampling", version=version, ticket=ticket, prompts=3, dropped=[*dropped], rarer=0, digest="0")


def test_a_prompt_that_was_dropped_is_asked_by_no_later_ticket(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl")
    issue(ledger, 0, 0)
    look(ledger, 1, "p:2")
    issue(ledger, 1, 0)
    look(ledger, 2, "p:1")
    issue(ledger, 2, 0)
    ledger.close()
    with pytest.raises(AuditError, match=r":7: line 7 \(issued\): ticket 2 asks prompt p:1, which was dropped before"):
        audit(ledger.path, unfinished=True)


def test_a_dropped_prompt_that_an_operator_asks_again_passes(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl")
    issue(ledger, 0, 0)
    ledger.write("refunded", ticket=0, version=0, reason="poison")
    look(ledger, 1, "p:1")
    ledger.write("issued", ticket=1, incarnation=1, version=0, stage=0, prompt="p:1", reissued=False, retry_of="0-1")
    ledger.close()
    assert audit(ledger.path, unfinished=True).next_ticket == 2


@pytest.mark.parametrize(
    ("ticket", "version", "dropped", "wrong"),
    [
        (2, 0, ["p:9"], "holds from ticket 2 on, 1 is next"),
        (1, 1, ["p:9"], "at version 1, the books stand at 0"),
        (1, 0, ["p:8"], "prompt p:8 is dropped twice"),
    ],
)
def test_a_look_that_is_out_of_place_is_named(tmp_path, ticket, version, dropped, wrong):
    ledger = begin(tmp_path / "ledger.jsonl")
    look(ledger, 0, "p:8")
    issue(ledger, 0, 0)
    look(ledger, ticket, *dropped, version=version)
    ledger.close()
    with pytest.raises(AuditError, match=rf"line 5 \(sampling\): {wrong}"):
        audit(ledger.path, unfinished=True)


def test_a_look_that_a_resume_has_undone_drops_nothing(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl")
    kept = ledger.line
    look(ledger, 0, "p:1")
    ledger.write("rolled_back", to_line=kept)
    ledger.write("started", incarnation=2, version=0)
    issue(ledger, 0, 0, incarnation=2)
    ledger.close()
    assert audit(ledger.path, unfinished=True).next_ticket == 1


def beside_of(ledger, ticket, version):
    ledger.write("beside", ticket=ticket, version=version)


def beside_ledger(path, batch, *, overflow="wait", marks=1):
    """B = 2, bound 0: tickets 0 and 1 are issued, 0 has no signal, 2 takes its place, and a step takes ``batch``."""
    ledger = begin(path, bound=0, overflow=overflow)
    issue(ledger, 0, 0)
    issue(ledger, 1, 0)
    for _ in range(marks):
        beside_of(ledger, 0, 0)
    issue(ledger, 2, 0)
    take(ledger, 0, batch, bound=0, overflow=overflow)
    for ticket in batch:
        train(ledger, ticket, 0, 0)
    step(ledger, 0, batch, bound=0, overflow=overflow)
    ledger.close()
    return path


@pytest.mark.parametrize("overflow", ["wait", "drop", "mask", "soft"])
def test_a_group_without_a_signal_holds_no_place_and_is_trained_beside_the_others(tmp_path, overflow):
    path = beside_ledger(tmp_path / "ledger.jsonl", [0, 1, 2], overflow=overflow)
    account = audit(path, unfinished=True)
    assert (account.trained, account.trained_beside, account.held[0]) == (3, 1, 0)
    assert "trained          2 in 1 step of 2, and 1 without a signal beside, each once" in account.describe()


@pytest.mark.parametrize(
    ("batch", "marks", "complaint"),
    [
        ([1, 2], 1, r"\(batch\): takes tickets \[1, 2\]…, which are not 2 live ones"),
        ([0, 1], 1, r"\(batch\): takes tickets \[1\]…, the oldest live ones are \[1, 2\]"),
        ([0, 1, 2], 0, r"\(issued\): ticket 2 issued while 2 of stage 0 are live, the bound allows 2"),
        ([0, 1, 2], 2, r"\(beside\): ticket 0 gives back a place that it does not hold"),
    ],
)
def test_what_is_beside_is_neither_left_out_nor_counted(tmp_path, batch, marks, complaint):
    path = beside_ledger(tmp_path / "ledger.jsonl", batch, marks=marks)
    with pytest.raises(AuditError, match=complaint):
        audit(path, unfinished=True)


def test_a_group_that_was_beside_at_a_checkpoint_holds_its_place_again_until_it_is_graded(tmp_path):
    ledger = begin(tmp_path / "ledger.jsonl", bound=0)
    issue(ledger, 0, 0)
    issue(ledger, 1, 0)
    beside_of(ledger, 0, 0)
    issue(ledger, 2, 0)
    ledger.write("rolled_back", to_line=ledger.line)
    ledger.write("started", incarnation=2, version=0)
    for ticket in range(3):
        issue(ledger, ticket, 0, incarnation=2, reissued=True)
    assert audit(ledger.path, unfinished=True).held[0] == 3
    beside_of(ledger, 0, 0)
    take(ledger, 0, [0, 1, 2], bound=0)
    for ticket in range(3):
        train(ledger, ticket, 0, 0)
    step(ledger, 0, [0, 1, 2], bound=0)
    ledger.close()
    assert audit(ledger.path, unfinished=True).trained_beside == 1
