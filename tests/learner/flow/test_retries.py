"""A poisoned ticket stays closed; its prompt may be asked again, once, by another."""

import json

from leeway_rl.learner.flow.retries import Retries, Retry


def test_the_next_ticket_takes_over_what_a_poisoned_one_asked_and_only_one_does():
    retries = Retries()
    retries.poisoned("5-1", "rows:5")
    retries.ask(["5-1", "5-1", "9-1"])
    retries.ask(["5-1"])
    assert retries.take(40) == Retry("5-1", "rows:5")
    assert retries.take(41) is None
    retries.ask(["5-1"])
    assert retries.take(42) is None


def test_a_rollback_takes_requests_back_with_their_tickets():
    retries = Retries()
    for number in (5, 6):
        retries.poisoned(f"{number}-1", f"rows:{number}")
    retries.ask(["5-1"])
    kept = json.loads(json.dumps(retries.state()))
    retries.take(40)
    back = Retries()
    back.restore(kept, drawn=None)
    back.ask(["5-1", "6-1"])
    assert [back.take(number) for number in (40, 41)] == [Retry("5-1", "rows:5"), Retry("6-1", "rows:6")]
    again = Retries()
    again.restore(json.loads(json.dumps(back.state())), drawn=None)
    assert again.of(41) == Retry("6-1", "rows:6")


def test_what_an_older_leeway_kept_of_a_poisoned_ticket_is_read_as_the_prompt_that_it_drew():
    kept = {"poisoned": {"5-1": [5, 0]}, "waiting": {"6-1": [6, 1]}, "taken": {"40": ["7-1", [7, 0]]}}
    back = Retries()
    back.restore(kept, drawn=lambda ticket, stage: f"rows:{ticket} of stage {stage}")
    assert back.of(40) == Retry("7-1", "rows:7 of stage 0")
    assert back.take(41) == Retry("6-1", "rows:6 of stage 1")
    back.ask(["5-1"])
    assert back.take(42) == Retry("5-1", "rows:5 of stage 0")
