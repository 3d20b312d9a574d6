"""Objects of a solution's own classes in assertions: honest ones work as in plain Python, and none forges equality."""

from textwrap import dedent

import pytest
from leeway_rl.common.types import VerdictKind
from leeway_rl.verifier.code.answer import CodeGrader

from .code_responses import checking, grade

CORRECT, WRONG = VerdictKind.CORRECT, VerdictKind.WRONG


POINT = "class Point:\n    def __init__(self, x, y):\n        self.x, self.y = x, y\n"
SLOTS = "class Point:\n    __slots__ = ('x', '__y')\n    def __init__(self, x, y):\n        self.x, self.__y = x, y\n"
HASH = "    def __hash__(self):\n        return hash((self.x, self.y))\n"
EQUALITIES = {
    "no check": "return self.x == other.x and self.y == other.y",
    "isinstance": "return isinstance(other, Point) and (self.x, self.y) == (other.x, other.y)",
    "type": "return type(self) is type(other) and vars(self) == vars(other)",
    "not implemented": "return (self.x, self.y) == (other.x, other.y) if isinstance(other, Point) else NotImplemented",
    "raises": "assert isinstance(other, Point)\n        return (self.x, self.y) == (other.x, other.y)",
    "close": "return abs(self.x - other.x) < 1e-9 and abs(self.y - other.y) < 1e-9",
    "hash": "return hash(self) == hash(other)",
    "text": "return str(self.__dict__) == str(other.__dict__)",
    "number": "return 1 if [self.x, self.y] == [other.x, other.y] else 0",
}


@pytest.mark.parametrize("name", EQUALITIES)
def test_objects_are_equal_as_they_say(grader: CodeGrader, name: str) -> None:
    source = f"{POINT}{HASH}    def __eq__(self, other):\n        {EQUALITIES[name]}\n"
    source += "def f(n): return [Point(i, i) for i in range(n)]"
    honest = [
        "assert Point(1, 2) == Point(1, 2) and Point(1, 2) != Point(2, 2) and not Point(1, 2) == Point(1, 3)",
        "assert Point(1, 2) in [Point(3, 4), Point(1, 2)] and [Point(1, 2)].index(Point(1, 2)) == 0",
        "assert len({Point(1, 2), Point(1, 2), Point(1, 3)}) == 2 and hash(Point(1, 2)) == hash(Point(1, 2))",
        "assert {Point(1, 2): 5}[Point(1, 2)] == 5 and {Point(0, 0), Point(1, 1)} == set(f(2) + f(2))",
        "assert f(2) == [Point(0, 0), Point(1, 1)] and Point(1, 1) in f(3) and (Point(1, 1), 1) == (f(2)[1], 1)",
    ]
    verdict = grade(grader, source, {"assert_case": honest})
    assert (verdict.kind, verdict.reason) == (CORRECT, "by assertions")
    for case in ("assert Point(1, 2) == Point(1, 3)", "assert Point(1, 2) in {Point(1, 3)}", "assert f(2) == f(3)[1:]"):
        assert grade(grader, source, {"assert_case": [case]}).kind is WRONG


HONEST = {
    "dataclass": (
        "@dataclass\nclass Point:\n    x: int\n    y: int = 0\n    tags: list = field(default_factory=list)",
        "p = Point(1)\np.x = 5\nassert p == Point(5) and p != Point(1) and repr(p) == 'Point(x=5, y=0, tags=[])'",
    ),
    "frozen and ordered dataclass": (
        "@dataclass(frozen=True, order=True)\nclass Point:\n    x: int\n    y: int",
        """
        assert sorted([Point(2, 1), Point(1, 2)]) == [Point(1, 2), Point(2, 1)] and Point(1, 2) < Point(1, 3)
        assert len({Point(1, 2), Point(1, 2)}) == 1 and max(Point(1, 2), Point(3, 0)).x == 3
        for kind in (AttributeError, FrozenInstanceError):
            try:
                Point(1, 2).x = 3
                assert False
            except kind:
                pass
        """,
    ),
    "slots": (
        SLOTS + "    def __eq__(self, other):\n        return (self.x, self.__y) == (other.x, other.__y)",
        "assert Point(1, 2) == Point(1, 2) and Point(1, 2) != Point(1, 3)",
    ),
    "namedtuple": (
        "Point = collections.namedtuple('Point', 'x y')\ndef f(n): return Point(n, n)",
        """
        p = Point(1, 2)
        assert p.x == 1 and p == (1, 2) and p[1] == 2 and len(p) == 2 and p == Point(x=1, y=2)
        assert f(3).y == 3 and f(3) == (3, 3) and f(3)._replace(x=5) == (5, 3) and f(1)._asdict() == {"x": 1, "y": 1}
        a, b = f(4)
        assert (a, b) == (4, 4) and len({f(1), f(1), (1, 1)}) == 1 and isinstance(f(1), tuple)
        assert repr(p) == "Point(x=1, y=2)"
        assert sorted([Point(2, 1), Point(1, 2)])[0].x == 1 and copy.deepcopy(p) == p
        """,
    ),
    "NamedTuple with a method": (
        "class Point(NamedTuple):\n    x: int\n    y: int = 0\n    def norm(self): return self.x + self.y\n"
        "def f(p): return p.norm()",
        "assert Point(1).y == 0 and Point(1, 2).norm() == 3 and f(Point(1, 2)) == 3 and Point(1, 2) == (1, 2)",
    ),
    "enum": (
        "from enum import Enum\nclass Color(Enum):\n    RED = 1\n    BLUE = 2\n"
        "def f(x): return Color.RED if x else Color.BLUE",
        """
        assert f(1) == Color.RED and f(1) is Color.RED and f(1) != Color.BLUE and {Color.RED: 5}[f(1)] == 5
        assert Color.RED.name == "RED" and Color(1) == Color.RED == Color["RED"] and str(f(0)) == "Color.BLUE"
        assert [color.value for color in Color] == [1, 2] and f(1) in {Color.RED} and isinstance(f(1), Color)
        """,
    ),
    "IntEnum": (
        "from enum import IntEnum\nclass Level(IntEnum):\n    LOW = 1\n    HIGH = 2\ndef f(): return Level.HIGH",
        "assert f() == 2 and f().name == 'HIGH' and Level.LOW < f() and f() + 1 == 3 and [0, 1, 7][f()] == 7",
    ),
    "order": (
        "class Task:\n    def __init__(self, p, name): self.p, self.name = p, name\n"
        "    def __lt__(self, other): return self.p < other.p\n    def __repr__(self): return self.name",
        """
        assert [t.name for t in sorted([Task(2, "b"), Task(1, "a")])] == ["a", "b"]
        heap = []
        for p, name in ((3, "c"), (1, "a")):
            heappush(heap, Task(p, name))
        assert heappop(heap).name == "a" and max(Task(1, "a"), Task(2, "b")).name == "b"
        """,
    ),
    "total_ordering": (
        "@functools.total_ordering\nclass V:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, other): return self.x == other.x\n    def __lt__(self, other): return self.x < other.x",
        "assert V(1) <= V(1) and V(2) > V(1) and V(1) != V(2)",
    ),
    "tree": (
        "class N:\n    def __init__(self, v, l=None, r=None): self.v, self.l, self.r = v, l, r\n"
        "    def __eq__(self, other):\n        if other is None: return False\n"
        "        return self.v == other.v and self.l == other.l and self.r == other.r\n"
        "def turned(t): return t and N(t.v, turned(t.r), turned(t.l))",
        "assert turned(N(1, N(2), N(3))) == N(1, N(3), N(2)) and turned(N(1, N(2))) != N(1, N(2))",
    ),
    "nothing to tell apart": (
        "class Nil:\n    def __eq__(self, other): return isinstance(other, Nil)\n    def __hash__(self): return 0",
        "assert Nil() == Nil() and Nil() in {Nil()} and Nil() != 0",
    ),
    "a list of its own": (
        "class Stack(list):\n    def push(self, x): self.append(x)",
        "s = Stack()\ns.push(1)\ns.push(2)\nassert s == [1, 2] and len(s) == 2 and s[::-1] == [2, 1]\n"
        "assert s.pop() == 2 and list(s) == [1] != s[:0]",
    ),
    "a dictionary of its own": (
        """
class LRU(OrderedDict):
    def __init__(self, size):
        super().__init__()
        self.size = size
    def get(self, key):
        if key not in self: return -1
        self.move_to_end(key)
        return self[key]
    def put(self, key, value):
        self[key] = value
        if len(self) > self.size: self.popitem(last=False)
""",
        "c = LRU(2)\nc.put(1, 1)\nc.put(2, 2)\nassert c.get(1) == 1\nc.put(3, 3)\n"
        "assert c.get(2) == -1 and c == {1: 1, 3: 3}",
    ),
    "numbers": (
        """
class Money:
    def __init__(self, c): self.c = c
    def __eq__(self, other): return self.c == other.c
    def __add__(self, other): return Money(self.c + other.c)
    def __radd__(self, other): return self if other == 0 else self + other
    def __int__(self): return self.c
    def __float__(self): return self.c / 1
    def __round__(self, digits=None): return round(self.c, digits)
    def __format__(self, form): return format(self.c, form)
    def __reversed__(self): return iter([3, 2])
""",
        "m = Money(1)\nm += Money(2)\nassert m == sum([Money(1), Money(2)]) and int(m) == 3 and float(m) == 3.0\n"
        "assert round(m) == 3 and f'{m:03d}' == '003' and list(reversed(m)) == [3, 2]",
    ),
    "inheritance": (
        f"{POINT}class Sub(Point): pass\ndef f(): return Sub(1, 2)",
        "assert isinstance(f(), Point) and isinstance(f(), Sub) and not isinstance(Point(1, 2), Sub)\n"
        "assert not isinstance(5, Point) and issubclass(Sub, Point) and not issubclass(Point, Sub)",
    ),
    "an exception of its own": (
        "class Bad(ValueError): pass\nclass Own(Exception): pass\ndef f(x): raise Bad('b') if x else Own('o')",
        "for x, kind in ((1, ValueError), (0, Exception)):\n    try:\n        f(x)\n        assert False\n"
        "    except kind as error:\n        assert ('b' if x else 'o') in str(error)",
    ),
    "a callback as a key": (
        "@lru_cache\ndef g(h): return h(2)\ndef f(h): return {h: g(h)}[h]",
        "assert f(lambda x: x + 1) == 3",
    ),
}
HEAD = "from dataclasses import dataclass, field, FrozenInstanceError\n"


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_class_works_as_in_plain_python(grader: CodeGrader, name: str) -> None:
    source, case = HONEST[name]
    tests = {"assert_case": [HEAD + dedent(case)]}
    exec(f"{_PRELUDE}{HEAD}{source}\n{dedent(case)}", {"__name__": "plain"})  # so it does there
    verdict = grade(grader, HEAD + source, tests)
    assert (verdict.kind, verdict.reason) == (CORRECT, "by assertions")


_PRELUDE = (
    "import collections, copy, functools\nfrom collections import OrderedDict\nfrom functools import lru_cache\n"
    "from heapq import heappop, heappush\nfrom typing import NamedTuple\n"
)

FORGED = {
    "always": "return True",
    "truthy": "return [1]",
    "raises at strangers": "if not isinstance(other, Point): raise TypeError\n        return True",
    "needs an attribute": "other.x\n        return True",
    "knows the stranger": "return type(other).__name__ != '_Stranger'",
    "its own class": "return isinstance(other, Point)",
    "its own type": "return type(other) is Point",
    "has the attribute": "return hasattr(other, 'x')",
    "every other time": "Point.n = getattr(Point, 'n', 0) + 1\n        return Point.n % 2 == 1",
    "once": "Point.n = getattr(Point, 'n', 0) + 1\n        return Point.n == 1",
    "not implemented": "return True if isinstance(other, Point) else NotImplemented",
    "interrupts": "if type(other) is not Point: raise KeyboardInterrupt\n        return True",
    "exits": "raise SystemExit(0)",
}


EMPTY = ("always", "truthy", "raises at strangers", "needs an attribute", "has the attribute", "interrupts", "exits")
"""Those that are seen through where an object holds nothing, too. The others are right then: both are empty."""


@pytest.mark.parametrize(
    ("name", "init"), [*((name, "self.x = args") for name in FORGED), *((name, "pass") for name in EMPTY)]
)
def test_equality_that_does_not_look_at_the_object_is_no_equality(grader: CodeGrader, name: str, init: str) -> None:
    source = f"""
class Point:
    def __init__(self, *args):
        {init}
    def __hash__(self):
        return hash(9)
    def __eq__(self, other):
        {FORGED[name]}
class Sly(Point):
    def __eq__(self, other):
        return True
    __hash__ = Point.__hash__
def f(x): return Point()
def g(x): return Sly()
"""
    for case in (
        *("f(3) == Point(9)", "Point(1) == Point(9)", "Point(1) in [Point(9)]", "Point(1) in {Point(9)}"),
        *("f(3) == 9", "9 in {f(3): 1}", "f(3) in {9}", "{9: 1}[f(3)]", "{f(3)} == {9}", "[f(3)] == [9]"),
        *("g(3) == Point(9)", "Point(9) == g(3)", "g(3) in {Point(9)}", "isinstance(f(3), int)"),
    ):
        assert grade(grader, source, {"assert_case": [f"assert {case}"]}).kind is WRONG, case


@pytest.mark.parametrize("base", ["int", "float", "str", "tuple", "list", "dict"])
def test_a_value_with_names_of_its_own_is_still_that_value(grader: CodeGrader, base: str) -> None:
    source = f"""
class Sly({base}):
    def __eq__(self, other): return True
    def __hash__(self): return hash(9)
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __contains__ = __lt__
    def __sub__(self, other): return 0
    __rsub__ = __abs__ = __int__ = __index__ = __sub__
    def __float__(self): return 9.0
    def __iter__(self): return iter([9])
    def __len__(self): return 9
    def __repr__(self): return "9"
    __str__ = __repr__
    real = 9
    def __getattr__(self, name): return 9
def f(x): return Sly()
"""
    for test in (
        *("candidate(3) == 9", "9 == candidate(3)", "candidate(3) in [9]", "abs(candidate(3) - 9) < 1e-6"),
        *("8 < candidate(3) < 10", "candidate(3) > 8", "[*candidate(3)] == [9]", "len(candidate(3)) == 9"),
        *("float(candidate(3)) == 9", "round(candidate(3)) == 9", "range(9)[candidate(3)] == 9"),
        *("9 in {candidate(3)}", "isinstance(candidate(3), bool)", "candidate(3) + 0 == 9", "candidate(3).real == 9.5"),
    ):
        assert grade(grader, source, checking(f"assert {test}")).kind is WRONG, test


def test_a_class_that_a_result_is_makes_no_instances_with_operators(grader: CodeGrader) -> None:
    source = "class Point:\n    def __init__(self, x): pass\n    def __gt__(self, other): return True\n"
    source += "def f(x): return Point"
    cases = ["assert isinstance(Point(3), Point) and Point(3) > 8", "Point\nassert f(3)(3) > 8"]
    assert [grade(grader, source, {"assert_case": [case]}).kind for case in cases] == [CORRECT, WRONG]


def test_an_exception_of_the_solution_is_never_a_failed_assertion_that_passes(grader: CodeGrader) -> None:
    source = (
        "class Done(SystemExit): pass\nclass Gone(KeyboardInterrupt): pass\ndef f(x): raise Done(0) if x else Gone()"
    )
    for x in (0, 1):
        assert grade(grader, source, {"assert_case": [f"f({x})\nassert True"]}).kind is WRONG
