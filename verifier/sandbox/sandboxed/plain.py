"""Python values as flat JSON, and back: what may pass between a solution and whoever judges it.

A value is a table of nodes and a reference to its root. A reference is a JSON scalar, or ``[index]`` of a node; a node
is ``[tag, …]`` with references in it. Flat, so that a list nested a million deep is no recursion, and shared or cyclic
structure keeps its shape.

Only exact built-in types come out. An instance of a subclass is reduced to its built-in content, an instance of a
class that both ends know travels as its attributes, and anything else is ``opaque``: the caller's matter.
"""

import datetime
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

_SMALL = 1 << 53
_SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}
_MAPPINGS: dict[type, str] = {dict: "dict", OrderedDict: "OrderedDict", defaultdict: "defaultdict", Counter: "Counter"}
_MADE = {"OrderedDict": OrderedDict, "defaultdict": defaultdict, "Counter": Counter, "dict": dict}
_BY_TEXT: dict[type, Callable[[Any], str]] = {Decimal: str, Fraction: str, range: repr, bytearray: bytearray.hex}
_OF_TEXT: dict[str, Callable[[Any], Any]] = {
    "int": lambda text: int(text, 16),
    "float": float,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "Decimal": Decimal,
    "Fraction": Fraction,
}
_DATES = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta)

MUTABLE = frozenset({"list", "set", "deque", "dict", "OrderedDict", "defaultdict", "Counter", "object"})
"""Tags of nodes that can be changed in place."""


class Packer:
    """Builds a node table. ``objects`` runs parallel to ``nodes`` and keeps what they were made of alive."""

    def __init__(
        self,
        opaque: Callable[[Any], list[Any]],
        shared: dict[str, type],
        *,
        named: Callable[[Any, Any], list[Any]] | None = None,
        nodes: list[list[Any]] | None = None,
        budget: float = math.inf,
    ) -> None:
        """``named`` makes the node of an instance of a subclass of int, float, str or tuple, out of it and a reference
        to its content; without it the content is all. ``nodes`` of another table may come first; references into it
        stay what they are. More characters and references than ``budget`` raise ``ValueError``."""
        self._budget = budget
        self.nodes: list[list[Any]] = list(nodes or ())
        self.objects: list[Any] = [None] * len(self.nodes)
        self._opaque, self._shared, self._named = opaque, shared, named
        self._index: dict[int, int] = {}
        self._waiting: list[int] = []

    def pack(self, value: Any) -> Any:
        """A reference to ``value``, whose nodes are in the table on return."""
        root = self._ref(value)
        while self._waiting:
            index = self._waiting.pop()
            self.nodes[index] = self._node(self.objects[index])
        return root

    def _ref(self, value: Any) -> Any:
        kind = type(value)
        self._budget -= 1 if kind is not str else len(value)
        if self._budget < 0:
            raise ValueError("a value too large to be handed over")
        if value is None or kind is bool or kind is str or (kind is int and -_SMALL < value < _SMALL):
            return value
        if kind is float and value - value == 0.0:
            return value
        found = self._index.get(id(value))
        if found is None:
            found = self._index[id(value)] = len(self.nodes)
            self.nodes.append([])
            self.objects.append(value)
            self._waiting.append(found)
        return [found]

    def _node(self, value: Any) -> list[Any]:
        kind = type(value)
        if kind in _SEQUENCES:
            return [_SEQUENCES[kind], [self._ref(item) for item in value]]
        if kind in _MAPPINGS:
            return [_MAPPINGS[kind], [[self._ref(key), self._ref(item)] for key, item in value.items()]]
        if kind is int:
            return ["int", hex(value)]
        if kind is float:
            return ["float", repr(value)]
        if kind is complex:
            return ["complex", [repr(value.real), repr(value.imag)]]
        if kind is bytes:
            self._budget -= len(value)
            return ["bytes", value.hex()] if self._budget >= 0 else self._ref(None)
        if kind in _BY_TEXT:
            return [kind.__name__, _BY_TEXT[kind](value)]
        if kind is slice:
            return ["slice", [self._ref(part) for part in (value.start, value.stop, value.step)]]
        if kind in _DATES:
            return ["date", [kind.__name__, [self._ref(part) for part in _date_parts(value)]]]
        return self._other(value, kind)

    def _other(self, value: Any, kind: type) -> list[Any]:
        if self._shared.get(kind.__name__) is not None:
            return ["object", [kind.__name__, [[name, self._ref(item)] for name, item in _attributes(value)]]]
        if kind.__module__ == "numpy":
            plain = value.tolist()
            if type(plain) is not kind:
                return ["same", self._ref(plain)]
        for base, content in _BASES:
            if isinstance(value, base):
                ref = self._ref(content(value))
                return ["same", ref] if self._named is None or base not in _FIXED else self._named(value, ref)
        return self._opaque(value)


def _attributes(value: Any) -> Iterable[tuple[str, Any]]:
    slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name) and not name.startswith("__")}
    return {**found, **getattr(value, "__dict__", {})}.items()


def _date_parts(value: Any) -> tuple[int, ...]:
    if isinstance(value, datetime.timedelta):
        return value.days, value.seconds, value.microseconds
    if isinstance(value, datetime.datetime):
        return value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond
    if isinstance(value, datetime.date):
        return value.year, value.month, value.day
    return value.hour, value.minute, value.second, value.microsecond


# By the base's own methods: a subclass that lies about its content still only yields some plain value.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, lambda value: int.__add__(value, 0)),
    (float, lambda value: float.__add__(value, 0.0)),
    (str, lambda value: str.__str__(value)[:]),
    (list, lambda value: list(list.__iter__(value))),
    (tuple, lambda value: tuple(tuple.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
)

_FIXED = (int, float, str, tuple)


def content_of(value: Any) -> Any | None:
    """The list, dictionary or set that ``value`` is, where it is one of a class of its own; otherwise None."""
    if type(value) in _SEQUENCES or type(value) in _MAPPINGS:
        return None
    return next((content(value) for base, content in _BASES if base not in _FIXED and isinstance(value, base)), None)


class Unpacker:
    """Rebuilds values from a node table. Raises ``ValueError`` or ``TypeError`` on a table that is none."""

    def __init__(
        self,
        nodes: list[list[Any]],
        opaque: Callable[[list[Any]], Any],
        shared: dict[str, type],
        existing: dict[int, Any] | None = None,
    ) -> None:
        """``existing`` nodes are filled into these objects of ours, in place, instead of new ones."""
        self.nodes = nodes
        self.objects: list[Any] = [None] * len(nodes)
        self._opaque, self._shared, self._existing = opaque, shared, existing or {}
        self._done = [False] * len(nodes)
        self._build()

    def value(self, ref: Any) -> Any:
        """What a reference stands for."""
        return self.objects[ref[0]] if type(ref) is list else ref

    def _build(self) -> None:
        for index, (tag, _) in enumerate(self.nodes):
            if tag in MUTABLE:
                self.objects[index] = self._empty(index, tag)
                self._done[index] = True
        for index in range(len(self.nodes)):
            if not self._done[index]:
                self._finish(index)
        for index, (tag, body) in enumerate(self.nodes):
            if tag in MUTABLE:
                self._fill(self.objects[index], tag, body)

    def _empty(self, index: int, tag: str) -> Any:
        if index in self._existing:
            return self._existing[index]
        if tag == "object":
            cls = self._shared[self.nodes[index][1][0]]
            return cls.__new__(cls)  # type: ignore[call-overload]
        return {"list": list, "set": set, "deque": deque, **_MADE}[tag]()

    def _finish(self, index: int) -> None:
        """An immutable node needs its parts first; depth first, without recursion."""
        stack, opened = [index], set()
        while stack:
            top = stack[-1]
            if self._done[top]:
                stack.pop()
                continue
            missing = [part for part in self._parts(top) if not self._done[part]]
            if missing:
                if top in opened:
                    raise ValueError("a tuple that contains itself")
                opened.add(top)
                stack.extend(missing)
                continue
            self.objects[top] = self._immutable(*self.nodes[top])
            self._done[top] = True

    def _parts(self, index: int) -> list[int]:
        tag, body = self.nodes[index]
        refs = (
            body
            if tag in ("tuple", "frozenset", "slice")
            else [body]
            if tag == "same"
            else body[1]
            if tag == "date"
            else []
        )
        refs = body[:1] if tag == "named" else refs
        return [ref[0] for ref in refs if type(ref) is list]

    def _immutable(self, tag: str, body: Any) -> Any:
        match tag:
            case "tuple":
                return tuple([self.value(ref) for ref in body])
            case "frozenset":
                return frozenset([self.value(ref) for ref in body])
            case "slice":
                return slice(*[self.value(ref) for ref in body])
            case "same":
                return self.value(body)
            case "named":
                return self._opaque([tag, [self.value(body[0]), body[1]]])
            case "complex":
                return complex(float(body[0]), float(body[1]))
            case "range":
                return range(*[int(part) for part in body[len("range(") : -1].split(",")])
            case "date":
                return {cls.__name__: cls for cls in _DATES}[body[0]](*[self.value(ref) for ref in body[1]])
        return _OF_TEXT[tag](body) if tag in _OF_TEXT else self._opaque([tag, body])

    def _fill(self, made: Any, tag: str, body: Any) -> None:
        if tag == "object":
            for name, ref in body[1]:
                if name.startswith("__"):
                    raise ValueError("an attribute of Python's own")
                object.__setattr__(made, name, self.value(ref))
            return
        made.clear()
        if tag in _MADE:
            made.update({self.value(key): self.value(ref) for key, ref in body})
        elif tag == "set":
            made.update([self.value(ref) for ref in body])
        else:
            made.extend([self.value(ref) for ref in body])
