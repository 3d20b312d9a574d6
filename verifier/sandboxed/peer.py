"""Calls between a solution and the program that tests it, each in a sandbox of its own.

The test program asks, the solution's process answers, and values pass as ``plain`` tables only. So the solution has
nothing to reach for: no frame, builtin, file or exit code of the judge is in its process. What is not plain (a class
of the solution, an instance, a generator) stays where it is, and the test program holds a ``Remote`` in its place.

A remote object answers questions about itself, so it must not be able to answer the test's: against a plain value it
is unequal, whatever its ``__eq__`` says, and it has no order and no arithmetic with one. Only an instance that the
test itself made, by calling what it names like a class, may use its operators: then they are what is tested.
"""

from __future__ import annotations

import builtins
import operator
import socket
from collections.abc import Callable, Iterator
from typing import Any

from . import frames
from .frames import ANSWER, ASK
from .plain import MUTABLE, Packer, Unpacker

MAX_ANSWER = 12_000_000
"""Characters and nodes of one answer together; beyond it nothing is sent."""

_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": operator.abs,
    "invert": operator.invert,
}
_ORDER = ("lt", "le", "gt", "ge")


class RemoteError(Exception):
    """An exception of the solution that is no built-in one."""


class Peer:
    """One end. ``serves`` says which operations the other end may ask for."""

    def __init__(self, link: socket.socket, shared: dict[str, type], serves: dict[str, Callable[..., Any]]) -> None:
        self._link, self.shared, self._serves = link, shared, serves
        self._ours: list[Any] = []
        self._handles: dict[int, int] = {}

    def ask(self, operation: str, *values: Any, limited: bool = True) -> Any:
        """Have the other end do ``operation``; changes it made to mutable arguments are made here too.

        ``limited`` results, where they are remote, have no operators.
        """
        packer = self._packer()
        root = packer.pack(list(values))
        frames.send(self._link, ASK, [operation, root, packer.nodes])
        while True:
            frame = frames.receive(self._link)
            if frame is None:
                raise SystemExit  # the judge is gone, and so is the reason to go on
            kind, body, _ = frame
            if kind == ANSWER:
                return self._take(body, packer.objects, limited)
            self.answer(body)

    def answer(self, body: Any) -> None:
        """Do what the other end asks, and say how it went."""
        operation, root, nodes = body
        try:
            unpacker = self._unpacker(nodes, True)
            value = self._serves[operation](*unpacker.value(root))
        except BaseException as error:
            frames.send(self._link, ANSWER, ["raised", type(error).__name__, _words(error)])
            return
        packer = Packer(self._export, self.shared, budget=MAX_ANSWER)
        try:
            ref = packer.pack(value)
            given = [(index, thing) for index, thing in enumerate(unpacker.objects) if nodes[index][0] in MUTABLE]
            changed = [[index, packer.pack(thing)[0]] for index, thing in given[1:]]  # the first is the argument list
        except BaseException as error:
            frames.send(self._link, ANSWER, ["raised", type(error).__name__, _words(error)])
            return
        frames.send(self._link, ANSWER, ["value", ref, packer.nodes, changed])

    def _take(self, body: Any, sent: list[Any], limited: bool) -> Any:
        if body[0] == "raised":
            kind = getattr(builtins, body[1], None)
            honest = isinstance(kind, type) and issubclass(kind, Exception) and kind is not UnicodeDecodeError
            if honest and not issubclass(kind, UnicodeError):  # type: ignore[arg-type]
                raise kind(body[2])  # type: ignore[misc]
            raise RemoteError(f"{body[1]}: {body[2]}")
        _, ref, nodes, changed = body
        existing = {theirs: sent[mine] for mine, theirs in changed}
        return self._unpacker(nodes, limited, existing).value(ref)

    def _packer(self) -> Packer:
        return Packer(self._export, self.shared)

    def _unpacker(self, nodes: list[list[Any]], limited: bool, existing: dict[int, Any] | None = None) -> Unpacker:
        return Unpacker(nodes, lambda node: self._import(node, limited), self.shared, existing)

    def _export(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return ["yours", value._leeway_handle]
        handle = self._handles.get(id(value))
        if handle is None:
            handle = self._handles[id(value)] = len(self._ours)
            self._ours.append(value)
        return ["mine", handle]

    def _import(self, node: list[Any], limited: bool) -> Any:
        tag, body = node
        if tag == "yours":
            return self._ours[body]
        if tag == "mine":
            return Remote(self, body, limited)
        raise ValueError(f"no such tag: {str(tag)[:20]}")


def _words(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""


class Remote:
    """What the other end holds. See the module's docstring for what it may do."""

    __slots__ = ("_leeway_class", "_leeway_handle", "_leeway_limited", "_leeway_peer")

    def __init__(self, peer: Peer, handle: int, limited: bool) -> None:
        for name, value in (("peer", peer), ("handle", handle), ("limited", limited), ("class", False)):
            object.__setattr__(self, "_leeway_" + name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _ask(self, self._leeway_class, "call", self, list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        return _ask(self, False, "getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, False, "setattr", self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and bool(_ask(self, False, "equal", self, other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._leeway_handle)

    def __iter__(self) -> Iterator[Any]:
        iterator = _ask(self, False, "iter", self)
        while True:
            ended, value = _ask(self, False, "next", iterator)
            if ended:
                return
            yield value

    def __next__(self) -> Any:
        ended, value = _ask(self, False, "next", self)
        if ended:
            raise StopIteration
        return value

    def __contains__(self, item: Any) -> bool:
        if self._leeway_limited:
            return any(item == mine for mine in self)
        return bool(_ask(self, False, "contains", self, item))

    def __len__(self) -> int:
        return int(_ask(self, False, "len", self))

    def __bool__(self) -> bool:
        return bool(_ask(self, False, "bool", self))

    def __getitem__(self, key: Any) -> Any:
        return _ask(self, False, "getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        _ask(self, False, "setitem", self, key, value)

    def __delitem__(self, key: Any) -> None:
        _ask(self, False, "delitem", self, key)

    def __str__(self) -> str:
        return str(_ask(self, False, "str", self))

    def __repr__(self) -> str:
        return str(_ask(self, False, "repr", self))

    def __enter__(self) -> Any:
        return _ask(self, not self._leeway_limited, "call_method", self, "__enter__")

    def __exit__(self, *_: object) -> None:
        _ask(self, False, "call_method", self, "__exit__", None, None, None)


def mark_class(value: Any, name: str) -> Any:
    """``value``, whose calls make instances if the *test's* name for it is spelled like a class. What the solution says
    of itself does not count: a class may take a function's place, and call itself what it likes."""
    if isinstance(value, Remote) and name[:1].isupper():
        object.__setattr__(value, "_leeway_class", True)
    return value


def _ask(remote: Remote, makes: bool, operation: str, *values: Any) -> Any:
    peer: Peer = remote._leeway_peer
    return peer.ask(operation, *values, limited=not makes)


def _operators() -> None:
    """Give ``Remote`` the operators of instances that a test made; a result has none of them."""

    def binary(name: str) -> None:
        def forward(self: Remote, other: Any) -> Any:
            return NotImplemented if self._leeway_limited else _ask(self, True, "operator", name, self, other)

        def backward(self: Remote, other: Any) -> Any:
            return NotImplemented if self._leeway_limited else _ask(self, True, "operator", name, other, self)

        setattr(Remote, f"__{name}__", forward)
        if name not in _ORDER:
            setattr(Remote, f"__r{name}__", backward)

    def unary(name: str) -> None:
        def forward(self: Remote) -> Any:
            if self._leeway_limited:
                raise TypeError(f"a result of the solution is no number: {name}")
            return _ask(self, True, "unary", name, self)

        setattr(Remote, f"__{name}__", forward)

    for name in (*_BINARY, *_ORDER):
        binary(name)
    for name in _UNARY:
        unary(name)


_operators()


# --- the solution's end ---------------------------------------------------------------------------------------------


class _Stranger:
    """Equal to nothing that is honest."""


def _holds_for_all(value: Any) -> bool:
    return bool(value == _Stranger())


def _equal(left: Any, right: Any) -> bool:
    """The objects' own equality, unless it holds for anything at all."""
    return type(left) is type(right) and bool(left == right) and not (_holds_for_all(left) or _holds_for_all(right))


def _next(iterator: Any) -> tuple[bool, Any]:
    try:
        return False, next(iterator)
    except StopIteration:
        return True, None


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
        "call_entry": lambda expression, args: find(namespace, expression)(*args),
        "call_method": lambda target, name, *args: getattr(target, name)(*args),
        "getattr": getattr,
        "setattr": setattr,
        "equal": _equal,
        "iter": iter,
        "next": _next,
        "contains": lambda target, item: item in target,
        "len": len,
        "bool": bool,
        "getitem": operator.getitem,
        "setitem": operator.setitem,
        "delitem": operator.delitem,
        "str": str,
        "repr": repr,
        "operator": apply,
        "unary": lambda name, value: _UNARY[name](value),
    }


def find(namespace: dict[str, Any], expression: str) -> Any:
    """What ``twoSum``, ``Solution().twoSum`` or a method of ``class Solution`` stands for."""
    solution = namespace.get("Solution")
    if isinstance(solution, type) and hasattr(solution, expression):  # the prelude may have another of that name
        return getattr(solution(), expression)
    if expression.startswith("Solution().") and solution is None:
        expression = expression.removeprefix("Solution().")
    return eval(expression, namespace)
