"""The environments that ship: a calculator, and Python in the sandbox."""

import pytest
from leeway_rl.common.environments import Step
from leeway_rl.common.errors import ConfigError
from leeway_rl.common.sandbox.room import SandboxRoom
from leeway_rl.rollout.environments.shipped import python
from leeway_rl.rollout.environments.shipped.calculator import Calculator, value_of, written
from leeway_rl.rollout.environments.shipped.python import NOTHING, Python


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("347+585", "932"),
        ("12*(3+4)", "84"),
        ("007+1", "8"),
        ("1.05*2", "2.1"),
        ("0.1+0.2", "0.3"),
        ("1/3", "0.333333333333"),
        ("2^10", "1024"),
        ("7//2 + 7 % 2", "4"),
        ("-2**2", "-4"),
        ("2**-2", "0.25"),
        ("10**1000/3", "3.33333333333E+999"),
        ("-" * 900 + "1", "1"),
    ],
)
def test_a_calculator_gives_the_value(expression, value):
    assert written(value_of(expression)) == value
    assert Calculator().step(f"So calc({expression})") == value


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("1/0", "division by zero"),
        ("9**9**9", "an exponent is a whole number"),
        ("2**4096", "the number is too large"),
        ("1e999", "the number is too large"),
        ("9**999*9**999", "the number is too large"),
        ("2^0.5", "an exponent is a whole number"),
        ("x+1", "only numbers"),
        ("__import__('os')", "only numbers"),
        ("True+1", "only numbers"),
        ("1+", "no arithmetic expression"),
        ("(" * 400 + "1", "no arithmetic expression"),
        ("1" * 1001, "at most 1000 characters"),
    ],
)
def test_what_cannot_be_calculated_is_told_to_the_policy(expression, why):
    with pytest.raises(ValueError, match=why):
        value_of(expression)
    assert Calculator().step(f"calc({expression})").startswith("error: ")
    assert Calculator(error="no").step(f"calc({expression})") == "no"


def test_the_last_call_of_a_turn_counts_and_a_turn_without_one_is_the_last():
    assert Calculator().step("calc(1+1)\nor calc(2+2)") == "4"
    assert Calculator().step(r"\boxed{932}") == Step(done=True)
    assert Calculator(call=":([^:]+):").step("7+5=12;:7+5:") == "12"


@pytest.fixture(scope="module")
def tool():
    made = Python(timeout_s=60.0, memory_bytes=256 << 20, most_characters=400)
    yield made
    python.room().close()
    python.room.cache_clear()


def block(program):
    return f"I try this.\n```python\n{program}\n```"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("print(6 * 7)", "42"),
        ("x = 1", NOTHING),
        ("print('a')\nimport sys\nsys.exit(3)", "a\nerror: it ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "error: it ended with signal 9"),
        ("import socket\ntry: socket.create_connection(('1.1.1.1', 53), 1)\nexcept OSError: print('no')", "no"),
    ],
)
def test_a_program_is_told_what_it_prints_and_how_it_fails(tool, program, said):
    assert tool.step(block(program)) == said


def test_a_program_that_runs_too_long_is_told_so(tool):
    assert Python(timeout_s=1.0).step(block("while True: pass")) == "error: it ran past 1 s"


def test_a_program_finds_nothing_of_an_earlier_one(tool):
    leaves = "try: open('left.txt')\nexcept OSError: open('left.txt', 'w').write('x'); print('new')"
    assert [tool.step(block(leaves)) for _ in range(2)] == ["new", "new"]


def test_a_traceback_is_told_and_long_output_is_cut_in_the_middle(tool):
    assert tool.step(block("1 / 0")).endswith("ZeroDivisionError: division by zero")
    assert tool.step(block("print('1' * 1000)")) == f"{'1' * 200}\n… 600 characters left out …\n{'1' * 200}"


def test_a_program_that_wants_too_much_memory_is_told_so(tool):
    said = tool.step(block("held = bytearray(1 << 30)\nfor i in range(0, 1 << 30, 4096): held[i] = 1"))
    assert "memory" in said.lower()


def test_the_last_program_of_a_turn_runs_and_a_turn_without_one_is_the_last(tool):
    assert tool.step(block("print(1)") + block("print(2)")) == "2"
    assert tool.step("It is 42.") == Step(done=True)
    with pytest.raises(ValueError, match="has 0 groups"):
        Python(call="x")


def test_without_a_sandbox_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(python, "room", lambda: SandboxRoom(isolated=True))
    monkeypatch.setattr("leeway_rl.common.sandbox.sandbox.bubblewrap", lambda: "/nowhere/bwrap")
    with pytest.raises(ConfigError, match=r"no sandbox: .*bubblewrap"):
        Python()
