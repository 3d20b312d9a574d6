"""Calls between a solution and the program that tests it, each in a sandbox of its own.

The test program asks, the solution's process answers, and values pass as ``plain`` tables only. So the solution has
nothing to reach for: no frame, builtin, file or exit code of the judge is in its process. What is not plain (a class
of the solution, an instance, a generator) stays where it is, and the test program holds a ``Remote`` in its place.

A remote object answers questions about itself, so it must not be able to answer the test's: against a plain value it
is unequal, whatever its ``__eq__`` says, and it has no order and no arithmetic with one. Only an instance that the
test itself made, by calling what it names like a class, may use its operators: then they are what is tested.
An instance of a subclass of int, float, str or tuple is a plain value to the test, with its own names beside it.
"""

import builtins
import dataclasses
import math
import socket
from collections.abc import Callable, Iterator
from typing import Any

from . import frames
from .frames import ANSWER, ASK
from .objects import UNARY, Kept
from .plain import MUTABLE, Packer, Unpacker

MAX_ANSWER = 12_000_000
"""Most characters and nodes of one answer together. A larger answer is not sent."""

_BINARY = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor", "lshift", "rshift")
_ORDER = ("lt", "le", "gt", "ge")


_EXCEPTIONS: dict[str, type[Exception]] = {
    name: kind
    for name, kind in [*vars(builtins).items(), ("FrozenInstanceError", dataclasses.FrozenInstanceError)]
    if isinstance(kind, type)
    and issubclass(kind, Exception)
    and not issubclass(kind, (UnicodeError, BaseExceptionGroup))
}
"""Built-in exceptions that can be made again from a text alone."""


class RemoteError(Exception):
    """An exception of the solution that is not a built-in one."""


class Peer:
    """One end of the link. ``serves`` has the operations that the other end may ask for. ``tests``: this end tests."""

    def __init__(
        self,
        link: socket.socket,
        shared: dict[str, type],
        serves: dict[str, Callable[..., Any]],
        *,
        tests: bool = False,
    ) -> None:
        self._link, self.shared, self._serves, self.tests = link, shared, serves, tests
        self._ours: list[Any] = []
        self._handles: dict[int, int] = {}
        self._remotes: dict[tuple[int, bool], Remote] = {}

    def ask(self, operation: str, *values: Any, limited: bool = True) -> Any:
        """Have the other end do ``operation``. Changes that it made to mutable arguments are made here too.

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
                return self._take(body, packer, limited)
            self.answer(body)

    def answer(self, body: Any) -> None:
        """Do what the other end asks, and say how it went."""
        operation, root, nodes = body
        try:
            unpacker = self._unpacker(nodes, True)
            value = self._serves[operation](*unpacker.value(root))
        except BaseException as error:
            frames.send(self._link, ANSWER, _raised(error))
            return
        packer = self._packer(MAX_ANSWER)
        try:
            ref = packer.pack(value)
            given = [(index, thing) for index, thing in enumerate(unpacker.objects) if nodes[index][0] in MUTABLE]
            changed = [
                [index, packer.pack(thing)[0]] for index, thing in given[1:]
            ]  # the first one is the argument list
        except BaseException as error:
            frames.send(self._link, ANSWER, _raised(error))
            return
        frames.send(self._link, ANSWER, ["value", ref, packer.nodes, changed])

    def _take(self, body: Any, sent: Packer, limited: bool) -> Any:
        if body[0] == "raised":
            _, name, words, kind = body
            raise _EXCEPTIONS[kind](words) if kind in _EXCEPTIONS else RemoteError(f"{name}: {words}")
        _, ref, nodes, changed = body
        existing = {theirs: _changeable(sent, mine, nodes[theirs]) for mine, theirs in changed}
        return self._unpacker(nodes, limited, existing).value(ref)

    def _packer(self, budget: float = math.inf) -> Packer:
        return Packer(self._export, self.shared, named=self._export_named, budget=budget)

    def _unpacker(self, nodes: list[list[Any]], limited: bool, existing: dict[int, Any] | None = None) -> Unpacker:
        return Unpacker(nodes, lambda node: self._import(node, limited), self.shared, existing)

    def _export_named(self, value: Any, content: Any) -> list[Any]:
        """A number, a text or a tuple of a class of somebody's own: its content is plain, its other names stay."""
        if isinstance(value, _Named):
            return self._export(value._leeway_remote)
        return ["same", content] if self.tests else ["named", [content, self._export(value)]]

    def _export(self, value: Any) -> list[Any]:
        if isinstance(value, Remote):
            return ["yours", value._leeway_handle]
        if type(value) is Kept:
            value = value.thing
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
            return self._remotes.setdefault((body, limited), Remote(self, body, limited))
        if tag == "named":
            content, (whose, handle) = body
            if whose != "mine":
                raise ValueError("a value with names of ours")
            made = _NAMED[type(content)](content)
            object.__setattr__(made, "_leeway_remote", self._import([whose, handle], limited))
            return made
        raise ValueError(f"no such tag: {str(tag)[:20]}")


def _changeable(sent: Packer, index: int, found: list[Any]) -> Any:
    """The object of ours that the node ``found`` says is changed now: one that went over as mutable, and comes back as
    the same. Nothing else of ours may the other end change; least of all what stands here for objects of its own."""
    tag, body = sent.nodes[index]
    if tag not in MUTABLE or found[0] != tag or (tag == "object" and found[1][0] != body[0]):
        raise ValueError("a change to what cannot change")
    return sent.objects[index]


def _raised(error: BaseException) -> list[Any]:
    """An exception as a message, with its nearest class that the other end has too."""
    names = [kind.__name__ for kind in type(error).__mro__ if _EXCEPTIONS.get(kind.__name__) is kind]
    nearest = next(iter(names), "")
    own = type(error).__name__
    return ["raised", own, _words(error), nearest if nearest != "Exception" or own == nearest else ""]


def _words(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""


class Remote:
    """Stands for an object that the other end holds. The module's docstring says what it may do."""

    __slots__ = ("_leeway_class", "_leeway_handle", "_leeway_limited", "_leeway_peer")

    def __init__(self, peer: Peer, handle: int, limited: bool) -> None:
        for name, value in (("peer", peer), ("handle", handle), ("limited", limited), ("class", False)):
            object.__setattr__(self, "_leeway_" + name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        makes = self._leeway_class
        return _ask(self, makes, "make" if makes else "call", self, list(args), kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        return _ask(self, False, "getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _ask(self, False, "setattr", self, name, value)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Remote):
            return bool(_ask(self, False, "equal", self, other))
        if self._leeway_limited or not isinstance(other, (list, dict, set)):
            return False
        content = _ask(self, False, "content", self)  # the content is plain, so it is compared here
        return type(content) is list and bool(content) and type(content[0]) is not Remote and content[0] == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        """The hash that the object gives, which says no more than its equality with another object."""
        if not self._leeway_peer.tests:
            return hash(self._leeway_handle)
        return hash(_ask(self, False, "hash", self))

    def __instancecheck__(self, thing: Any) -> bool:
        thing = thing._leeway_remote if isinstance(thing, _Named) else thing
        return type(thing) is Remote and _ask(self, False, "isinstance", thing, self) is True

    def __subclasscheck__(self, cls: Any) -> bool:
        return type(cls) is Remote and _ask(self, False, "issubclass", cls, self) is True

    def __iter__(self) -> Iterator[Any]:
        iterator = _ask(self, False, "iter", self)
        while True:
            ended, value = _ask(self, False, "next", iterator)
            if ended:
                return
            yield value

    def __reversed__(self) -> Iterator[Any]:
        return iter(_ask(self, False, "reversed", self))

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

    def __format__(self, form: str) -> str:
        return str(_ask(self, False, "format", self, form))

    def __enter__(self) -> Any:
        return _ask(self, not self._leeway_limited, "call_method", self, "__enter__")

    def __exit__(self, *_: object) -> None:
        _ask(self, False, "call_method", self, "__exit__", None, None, None)


class _Named:
    """A plain value of the solution's own class. The solution answers for its names, but its value is fixed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_leeway"):
            raise AttributeError(name)
        return getattr(self._leeway_remote, name)

    def __repr__(self) -> str:
        return repr(self._leeway_remote)

    def __reduce__(self) -> tuple[Any, ...]:
        base: Any = type(self).__mro__[2]
        return base, (base(self),)  # a copy has only the value


class _NamedInt(_Named, int):
    __str__ = _Named.__repr__


class _NamedFloat(_Named, float):
    __str__ = _Named.__repr__


class _NamedStr(_Named, str):
    pass


class _NamedTuple(_Named, tuple):  # type: ignore[type-arg]
    __str__ = _Named.__repr__


_NAMED: dict[type, Callable[[Any], Any]] = {int: _NamedInt, float: _NamedFloat, str: _NamedStr, tuple: _NamedTuple}


def mark_class(value: Any) -> Any:
    """``value``, whose calls make instances: the test uses it as a class (``usage.py``)."""
    if not isinstance(value, Remote):
        return value
    marked = Remote(value._leeway_peer, value._leeway_handle, value._leeway_limited)
    object.__setattr__(marked, "_leeway_class", True)
    return marked


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

    def number(name: str, operation: str, *before: str) -> None:
        def forward(self: Remote, *args: Any) -> Any:
            if self._leeway_limited:
                raise TypeError(f"a result of the solution is no number: {name}")
            return _ask(self, True, operation, *before, self, *args)

        setattr(Remote, f"__{name}__", forward)

    for name in (*_BINARY, *_ORDER):
        binary(name)
    for name in UNARY:
        number(name, "unary", name)
    number("round", "round")
    number("divmod", "divmod")


_operators()
