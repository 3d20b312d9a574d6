"""A poisoned ticket stays closed; its prompt may be asked again, once, by another."""

import json

from leeway_rl.learner.flow.retries import Draw, Retries, Retry


def test_the_next_ticket_takes_over_what_a_poisoned_one_asked_and_only_one_does():
    retries = Retries()
    retries.poisoned(5, 0, "5-1")
    retries.ask(["5-1", "5-1", "9-1"])
    retries.ask(["5-1"])
    assert retries.take(40) == Retry("5-1", Draw(5, 0))
    assert retries.take(41) is None
    retries.ask(["5-1"])
    assert retries.take(42) is None


def test_a_retry_that_is_poisoned_too_keeps_its_first_prompt():
    retries = Retries()
    retries.poisoned(5, 0, "5-1")
    retries.ask(["5-1"])
    retries.take(40)
    retries.poisoned(40, 1, "40-1")
    retries.close(40)
    retries.ask(["40-1"])
    assert retries.take(60) == Retry("40-1", Draw(5, 0))


def test_a_rollback_takes_requests_back_with_their_tickets():
    retries = Retries()
    for number in (5, 6):
        retries.poisoned(number, 0, f"{number}-1")
    retries.ask(["5-1"])
    kept = json.loads(json.dumps(retries.state()))
    retries.take(40)
    back = Retries()
    back.restore(kept)
    back.ask(["5-1", "6-1"])
    assert [back.take(number) for number in (40, 41)] == [Retry("5-1", Draw(5, 0)), Retry("6-1", Draw(6, 0))]
    again = Retries()
    again.restore(json.loads(json.dumps(back.state())))
    assert again.of(41) == Retry("6-1", Draw(6, 0))
