"""Run: python -m pytest my-task"""

from reward import digits

ROW = {"prompt": "47+85", "answer": "132", "carries": 2}


def test_a_right_answer_gets_1():
    assert digits(r"7+5=12,4+8+1=13,\boxed{132}", ROW) == 1.0


def test_each_digit_in_its_place_counts():
    assert digits(r"\boxed{122}", ROW) == 2 / 3


def test_no_box_and_another_length_get_0():
    assert digits("132", ROW) == 0.0
    assert digits(r"\boxed{32}", ROW) == 0.0
