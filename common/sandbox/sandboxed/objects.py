"""Answers, in the solution's process, what a test program may ask of the solution's objects.

A solution could answer what it likes here, so nothing that is decided here counts when a plain value is compared. Only
one thing is decided here: whether two objects of one class of the solution are equal. Their own ``__eq__`` says so,
unless it does not look at what it compares.
"""

import operator
import types
from collections.abc import Callable
from typing import Any

from .plain import content_of

UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": operator.abs,
    "invert": operator.invert,
    "int": int,
    "float": float,
    "index": operator.index,
}


class Kept:
    """An object that stays here although it has plain content: the test made it, and tests its methods."""

    __slots__ = ("thing",)

    def __init__(self, thing: Any) -> None:
        self.thing = thing


class _Stranger:
    """An object that no honest comparison finds equal to anything."""


def _equal(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    # It is asked again at the end, because it could count how often it is asked.
    return bool(left == right) and not _blind(left) and not _blind(right) and bool(left == right)


def _blind(value: Any) -> bool:
    """Whether ``value`` equals what has nothing in common with it: a stranger, or one of its own class whose every
    attribute is a stranger, or is of the same type and another. A comparison that fails on a stranger has not found it
    equal; where there is no attribute to exchange, nobody can say so, and the failure is the comparison's."""
    twins = [_twin(value, lambda _: _Stranger()), _twin(value, _another)]
    if any(twin is None for twin in twins):
        return bool(value == _Stranger())
    return any(_finds_equal(value, other) for other in (_Stranger(), *twins))


def _another(attribute: Any) -> Any:
    """Another value of the same type, if one is easily made."""
    match attribute:
        case bool():
            return not attribute
        case int() | float() | complex():
            return attribute + 1
        case str():
            return attribute + "?"
        case bytes():
            return attribute + b"?"
        case list():
            return [*attribute, _Stranger()]
        case tuple():
            return (*attribute, _Stranger())
        case set() | frozenset():
            return type(attribute)([*attribute, _Stranger()])
        case dict():
            return {**attribute, _Stranger(): _Stranger()}
    return _Stranger()


def _finds_equal(value: Any, other: Any) -> bool:
    try:
        return bool(value == other)
    except Exception:  # an honest comparison without a look at the type may fail in any way
        return False


def _twin(value: Any, exchanged: Callable[[Any], Any]) -> Any | None:
    """Another of the class, with every attribute ``exchanged``; None where it has none, or cannot be made."""
    slots = [
        slot
        for cls in type(value).__mro__
        for slot in vars(cls).values()
        if isinstance(slot, types.MemberDescriptorType) and slot.__objclass__ is cls
    ]
    try:
        twin = object.__new__(type(value))
        names = object.__getattribute__(value, "__dict__") if hasattr(value, "__dict__") else {}
        for name, attribute in names.items():
            object.__getattribute__(twin, "__dict__")[name] = exchanged(attribute)
        for slot in slots:
            slot.__set__(twin, exchanged(slot.__get__(value)))
    except Exception:  # the class is made in C, or makes objects by its own rules
        return None
    return twin if names or slots else None


def _make(target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A call that the test spells like a class. What it makes out of a list or a dictionary keeps its methods."""
    made = target(*args, **kwargs)
    return Kept(made) if content_of(made) is not None else made


def _content(value: Any) -> list[Any]:
    """The plain content of a ``Kept`` object, in a list; an empty list where it has none."""
    content = content_of(value)
    return [] if content is None else [content]


def _next(iterator: Any) -> tuple[bool, Any]:
    try:
        return False, next(iterator)
    except StopIteration:
        return True, None


def _is_subclass(cls: Any, other: Any) -> bool:
    """Whether one class is a subclass of another by the classes themselves: what a metaclass says does not count."""
    return isinstance(cls, type) and any(base is other for base in type.mro(cls))


def solution_serves(namespace: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """What a test program may ask of the solution in ``namespace``."""

    def lookup(expression: str) -> Any:
        return find(namespace, expression)

    def has(name: str) -> bool:
        return name in namespace

    def apply(name: str, left: Any, right: Any) -> Any:
        return getattr(operator, f"__{name}__")(left, right)

    return {
        "has": has,
        "lookup": lookup,
        "call": lambda target, args, kwargs: target(*args, **kwargs),
        "make": _make,
        "call_entry": lambda expression, args: find(namespace, expression)(*args),
        "call_method": lambda target, name, *args: getattr(target, name)(*args),
        "getattr": getattr,
        "setattr": setattr,
        "equal": _equal,
        "content": _content,
        "hash": hash,
        "isinstance": lambda thing, cls: _is_subclass(type(thing), cls),
        "issubclass": _is_subclass,
        "iter": iter,
        "reversed": reversed,
        "next": _next,
        "contains": lambda target, item: item in target,
        "len": len,
        "bool": bool,
        "getitem": operator.getitem,
        "setitem": operator.setitem,
        "delitem": operator.delitem,
        "str": str,
        "repr": repr,
        "format": format,
        "round": round,
        "operator": apply,
        "divmod": divmod,
        "unary": lambda name, value: UNARY[name](value),
    }


def find(namespace: dict[str, Any], expression: str) -> Any:
    """What ``twoSum``, ``Solution().twoSum`` or a method of ``class Solution`` stands for."""
    solution = namespace.get("Solution")
    if isinstance(solution, type) and hasattr(solution, expression):  # the prelude may have another of that name
        return getattr(solution(), expression)
    if expression.startswith("Solution().") and solution is None:
        expression = expression.removeprefix("Solution().")
    return eval(expression, namespace)
