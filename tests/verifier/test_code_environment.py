"""What a solution finds around it: LiveCodeBench's names and limits, integers of any length, no ``__main__`` where it
is called."""

import pytest
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.code.answer import CodeGrader

from .code_responses import calling, checking, grade, printing

CORRECT, WRONG = VerdictKind.CORRECT, VerdictKind.WRONG


@pytest.mark.parametrize(
    ("source", "given", "due"),
    [
        ("a, b = map(int, input().split())\nprint(gcd(a, b))", "4 6", "2"),
        ("h = []\nheappush(h, 3)\nprint(h, bisect_left([1, 2], 2), sqrt(4), reduce(add, [1, 2]))", "", "[3] 1 2.0 3"),
        ("print(Counter(input())['a'], ascii_lowercase[:2], list(accumulate([1, 2])))", "aab", "2 ab [1, 3]"),
        ("def f(x: List[int]) -> Optional[int]: return x\nprint(f(1))", "", "1"),
        ("print(math.gcd(4, 6), copy.copy([1]), datetime.datetime(2020, 1, 1).year)", "", "2 [1] 2020"),
        ("line = stdin.readline().strip()\nstdout.write(line + stdin.read())", "a\nb", "ab"),
        ("print(pow(2, 3, 5), open is __import__('builtins').open, compile('1', '', 'eval').co_name)", "", None),
        ("print(sys.getrecursionlimit())\nsetrecursionlimit(10**6)", "", "50000"),
        ("def f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(int(input())))", "45000", "45000"),
        ("@cache\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint(f(int(input())))", "5000", "5000"),
        ("gcd = max\nprint(gcd(1, 2))", "", "2"),
    ],
)
def test_a_program_has_livecodebenchs_names_and_recursion_limit(
    grader: CodeGrader, source: str, given: str, due: str | None
) -> None:
    due = due or "3 True <module>"
    verdict = grade(grader, source, {"inputs": [given] * 3, "outputs": [due] * 3})
    assert (verdict.kind, verdict.reason) == (CORRECT, "by livecodebench")


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ("print(len(str(10**5000)))", printing("5001")),
        ("print(10**5000)", printing("1" + "0" * 5000)),
        ("print(int(input()) % 7)", printing(str((10**5000 - 1) % 7), "9" * 5000)),
        ("def f(n): return 10**n + 7", calling("f", ([400], 10**400 + 7))),
        ("def f(s): return int(s) + 1", {"fn_name": "f", "inputs": [f'"{"9" * 5000}"'], "outputs": ["1" + "0" * 5000]}),
        ("def f(n): return [-n]", {"fn_name": "f", "inputs": ["9" * 5000], "outputs": ["[-" + "9" * 5000 + "]"]}),
        ("def f(n): return 10**n", {"assert_case": [f"assert f(5000) == 1{'0' * 5000}"]}),
        ("def f(n): return str(10**n)", {"assert_case": ["assert int(f(5000)) == 10**5000"]}),
        ("def f(n): return 10**n", checking(f"assert candidate(5000) == 1{'0' * 5000}")),
    ],
)
def test_an_integer_may_have_any_number_of_digits(grader: CodeGrader, source: str, tests: dict) -> None:
    assert grade(grader, source, tests).kind is CORRECT
    assert grade(
        grader, source.replace("10**", "1+10**").replace("int(", "2+int(").replace("-n", "1-n"), tests
    ).kind is (WRONG)


GUARDS = [
    "if __name__ == '__main__':",
    'if "__main__" == __name__:',
    "if not __name__ != '__main__':",
    "if globals()['__name__'] == '__main__' and True:",
]
BODIES = ["print(f(input()))", "import sys; sys.exit(0)", "import unittest; unittest.main()", "while True: pass"]
CALLED = {
    "call": calling("f", (["ab"], "ba")),
    "livecodebench": {
        "public_test_cases": [{"input": '"ab"', "output": '"ba"', "testtype": "functional"}],
        "metadata": '{"func_name": "f"}',
    },
    "assertions": {"assert_case": ["assert f('ab') == 'ba'", "assert f('') == ''"]},
    "check": checking("assert candidate('ab') == 'ba'"),
    "human_eval": {
        "prompt": "def f(s):\n",
        "test": "def check(candidate):\n    assert candidate('ab') == 'ba'\nif __name__ == '__main__':\n    check(f)\n",
        "entry_point": "f",
    },
    "checker": calling("f", (["ab"], "ba"), checker="def check(given, due, actual):\n    return actual == due"),
}


@pytest.mark.parametrize("tests", CALLED)
@pytest.mark.parametrize("guard", GUARDS)
def test_what_is_called_is_not_run_as_a_program(grader: CodeGrader, guard: str, tests: str) -> None:
    for body in BODIES:
        source = f"def f(s):\n    return s[::-1] + end\n{guard}\n    {body}\n{guard}\n    {body}\nend = ''\n"
        verdict = grade(grader, source, CALLED[tests])
        assert verdict.kind is CORRECT, (body, verdict.reason)


@pytest.mark.parametrize("guard", GUARDS)
def test_a_program_runs_what_stands_behind_its_guard(grader: CodeGrader, guard: str) -> None:
    source = f"def f(s):\n    return s[::-1]\n{guard}\n    print(f(input()))\n    raise SystemExit(0)"
    assert grade(grader, source, printing("ba", "ab")).kind is CORRECT


def test_what_is_not_guarded_runs_in_any_case(grader: CodeGrader) -> None:
    assert grade(grader, "import sys\ndef f(s): return s[::-1]\nsys.exit(0)", CALLED["call"]).kind is WRONG


def test_classes_of_what_is_called_are_found_by_the_name_of_their_module(grader: CodeGrader) -> None:
    source = """
        from __future__ import annotations
        import pickle, sys, typing
        from concurrent.futures import ProcessPoolExecutor
        from dataclasses import dataclass
        @dataclass
        class Box:
            value: int
            kind: typing.ClassVar[str] = "box"
        class Pair(typing.NamedTuple):
            left: int
        def double(x):
            return 2 * x
        def f(s):
            import __main__
            assert __main__.Box is Box and sys.modules[Box.__module__].Box is Box
            assert typing.get_type_hints(Box)["value"] is int
            assert pickle.loads(pickle.dumps([Box(1), Pair(2)])) == [Box(1), Pair(2)]
            with ProcessPoolExecutor(1) as pool:
                assert list(pool.map(double, [1, 2])) == [2, 4]
            return s[::-1]
        if __name__ == "__main__":
            sys.exit(1)
        """
    assert grade(grader, source, calling("f", (["ab"], "ba"), (["xy"], "yx"))).reason == "by livecodebench"


def test_a_solution_that_is_indented_as_a_whole_is_read(grader: CodeGrader) -> None:
    for source in ("    x = 1\n    print(x)", "\n\tx = 1\n\tprint(x)"):
        assert grader.grade(f"```python\n{source}\n```", '{"inputs": [""], "outputs": ["1"]}', True).kind is CORRECT
