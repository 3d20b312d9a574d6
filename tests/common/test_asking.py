"""Nodes that can each give an answer are asked in about the time of one."""

import threading

import pytest
from leeway_rl.common.queue import asking
from leeway_rl.common.queue.asking import NoAnswer, Refusal, Silence, first_answer


@pytest.fixture
def long_head_start(monkeypatch):
    """Each node has as long to answer as it takes: a busy machine may not begin its thread within the head start."""
    monkeypatch.setattr(asking, "HEAD_START_S", 60.0)


@pytest.mark.usefixtures("long_head_start")
def test_one_that_answers_is_enough_and_the_others_are_not_asked():
    asked = []
    assert first_answer([1, 2, 3], lambda node: asked.append(node) or "yes") == (1, "yes")
    assert asked == [1]


@pytest.mark.usefixtures("long_head_start")
def test_one_that_refuses_is_followed_by_the_next_at_once():
    def ask(node):
        if node < 3:
            raise Refusal(f"not {node}")
        return "yes"

    assert first_answer([1, 2, 3], ask) == (3, "yes")
    with pytest.raises(NoAnswer) as caught:
        first_answer([1, 2], ask)
    assert {node: str(why) for node, why in caught.value.refusals.items()} == {1: "not 1", 2: "not 2"}
    with pytest.raises(NoAnswer):
        first_answer([], ask)


def test_silent_ones_wait_side_by_side_and_a_late_answer_counts(monkeypatch):
    monkeypatch.setattr(asking, "HEAD_START_S", 0.01)
    together = threading.Barrier(6)  # opens where all six wait at once

    def ask(node):
        together.wait(timeout=30)
        if node != 4:
            raise Silence("nothing")
        return "yes"

    assert first_answer(range(6), ask) == (4, "yes")


def test_an_error_that_is_no_refusal_is_raised():
    def ask(node):
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        first_answer([1, 2], ask)
