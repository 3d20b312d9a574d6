"""Values keep their types, their sharing and their cycles on the way through a table of nodes."""

import json
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leeway_rl.common.sandbox.sandboxed.plain import Packer, Unpacker


def opaque(value: Any) -> Any:
    raise TypeError(f"opaque: {value!r}")


def through(value: Any, shared: dict[str, type] | None = None) -> Any:
    packer = Packer(opaque, shared or {})
    ref, nodes = json.loads(json.dumps([packer.pack(value), packer.nodes]))
    return Unpacker(nodes, opaque, shared or {}).value(ref)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.complex_numbers(allow_nan=False)
)
KEYS = (
    st.none() | st.integers() | st.text(max_size=3) | st.tuples(st.integers(), st.frozensets(st.integers(), max_size=2))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(KEYS, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    found = through(value)
    assert found == value
    assert repr(type(found)) == repr(type(value))


def test_standard_types_arrive_as_they_were() -> None:
    value = [
        OrderedDict(a=1),
        Counter("aab"),
        deque([1]),
        Decimal("1.50"),
        Fraction(1, 3),
        date(2020, 1, 2),
        timedelta(1),
        range(1, 9, 2),
        slice(1, None, -2),
        defaultdict(list, x=[1]),
        bytearray(b"x"),
        10**5000,
    ]
    found = through(value)
    assert found == value
    assert list(map(type, found)) == list(map(type, value))


def test_nan_and_infinity_arrive() -> None:
    assert list(map(repr, through([float("nan"), float("inf"), -0.0]))) == ["nan", "inf", "-0.0"]


def test_sharing_and_cycles_keep_their_shape() -> None:
    inner: list[Any] = []
    value = [inner, (inner, inner)]
    inner.append(value)
    found = through(value)
    assert found[0] is found[1][0] is found[1][1]
    assert found[0][0] is found


def test_depth_is_no_recursion() -> None:
    deep: Any = ()
    for _ in range(100_000):
        deep = (deep,)
    found, depth = through(deep), 0
    while found:
        found, depth = found[0], depth + 1
    assert depth == 100_000


def test_subclasses_are_reduced_to_their_content() -> None:
    class Sly(int):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 9

        def __int__(self) -> int:
            return 9

        __index__ = __int__

    class SlyList(list):
        def __iter__(self) -> Any:
            return iter([9])

    assert through(Sly(7)) == 7
    assert type(through(Sly(7))) is int
    assert through(SlyList([1, 2])) == [1, 2]


def test_instances_of_shared_classes_travel_as_attributes() -> None:
    class Node:
        def __init__(self, value: int) -> None:
            self.value, self.next = value, self

    found = through(Node(3), {"Node": Node})
    assert (type(found), found.value, found.next is found) == (Node, 3, True)


def test_anything_else_is_opaque() -> None:
    for value in (object(), len, int, iter([])):
        with pytest.raises(TypeError, match="opaque"):
            through(value)


def test_a_budget_bounds_what_is_packed() -> None:
    for value in ("x" * 101, [0] * 101, b"x" * 101):
        with pytest.raises(ValueError, match="too large"):
            Packer(opaque, {}, budget=100).pack(value)


@pytest.mark.parametrize("nodes", [[["tuple", [[0]]]], [["nonsense", []]], [["list", [[7]]]], [["int", "zz"]], [[]]])
def test_a_table_that_is_none_raises(nodes: list) -> None:
    with pytest.raises((ValueError, TypeError, IndexError)):
        Unpacker(nodes, opaque, {})
