"""Run: python -m pytest my-task"""

from environment import SecondTry
from leeway_rl.common.environments import Step


def begun():
    made = SecondTry()
    made.reset({"prompt": "47+85", "answer": "132"})
    return made


def test_an_answer_that_is_right_at_once_is_worth_1():
    assert begun().step(r"7+5=12,4+8+1=13,\boxed{132}") == Step(reward=1.0, done=True)


def test_after_a_wrong_one_the_question_is_asked_again_and_the_right_one_is_worth_half():
    asked = begun()
    assert asked.step(r"\boxed{122}") == "47+85"
    assert asked.step(r"\boxed{132}") == Step(reward=0.5, done=True)


def test_two_wrong_answers_end_it_with_0():
    asked = begun()
    assert asked.step(r"\boxed{122}") == "47+85"
    assert asked.step(r"\boxed{32}") == Step(reward=0.0, done=True)
