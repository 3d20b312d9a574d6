"""Finds what a ``use`` names, checks what it can be called with, and gives a digest of the user's code that came with
it."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..config import expand
from ..errors import ConfigError
from ..files import checksum
from ..fingerprint import PACKAGE, fingerprint
from ..wording import guess


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is looked for."""

    section: str
    """The section of the configuration that names it."""
    thing: str
    """What is named: a function or a class."""
    group: str
    """The group of entry points by which installed packages offer such things; empty where they offer none."""
    worker: str
    """The worker that loads it."""
    shipped: Mapping[str, str]
    """What ships: by name, ``package.module:name``."""
    key: str = "use"
    """The key of that section that names it."""
    others: Collection[str] = ()
    """Other values of ``use``, which name no code."""


class Loader:
    """Loads what is named, and remembers which of the user's modules came with it."""

    def __init__(self, kind: Kind) -> None:
        self._kind, self._before, self._roots = kind, set(sys.modules), set[str]()

    def digest(self) -> str | None:
        """The digest of all modules that are the user's; None where there is none."""
        modules = self.checksums()
        return fingerprint(modules) if modules else None

    def checksums(self) -> dict[str, str]:
        """The checksum of the file of every module that is the user's, by the module's name here."""
        return {name: checksum(path) for name, path in self._users_modules().items()}

    def named(self, use: str) -> Any:
        """What ``use`` names. ``ConfigError`` if there is nothing of that name."""
        section, key, thing = self._kind.section, self._kind.key, self._kind.thing
        if use in self._kind.shipped:
            module, _, name = self._kind.shipped[use].partition(":")
            return getattr(importlib.import_module(module), name)
        place, colon, name = use.rpartition(":")
        if colon and "/" in place and not place.endswith(".py"):
            raise ConfigError(f"{section}: {key} = {use!r}: a file's name ends with .py: path/to/file.py:{thing}")
        if colon:
            module_of = self._file(Path(expand(place))) if place.endswith(".py") else importlib.import_module(place)
            self._roots.add(module_of.__name__.partition(".")[0])
            if not hasattr(module_of, name):
                raise ConfigError(f"{section}: {use!r}: {place} has no {name!r}{_instead(name, module_of, thing)}")
            return getattr(module_of, name)
        offered = {point.name: point for point in importlib.metadata.entry_points(group=self._kind.group)}
        if use in offered:
            self._roots.add(offered[use].module.partition(".")[0])
            return offered[use].load()
        known = sorted({*self._kind.others, *self._kind.shipped, *offered})
        raise ConfigError(
            f"{section}: {key} = {use!r}: nothing is called so; known: {', '.join(known)}; a {thing} of yours "
            f"is path/to/file.py:{thing} or package.module:{thing}{guess(use, known)}"
        )

    def _file(self, path: Path) -> ModuleType:
        path = path.absolute()
        if not path.is_file():
            raise ConfigError(
                f"{self._kind.section}: {path}: no such file; it has to be at this path on every "
                f"{self._kind.worker}'s machine"
            )
        known = sys.modules.get(path.stem)
        if known is not None and getattr(known, "__file__", None) == str(path):
            return known
        name = path.stem if known is None else f"{path.stem}_{fingerprint(str(path))}"
        if str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))  # for what it imports from beside it
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    def _users_modules(self) -> dict[str, Path]:
        """The files of the modules that came with it: those of the packages that ``use`` names, and all that are not
        installed."""
        found = {}
        for name, module in list(sys.modules.items()):
            file, top = getattr(module, "__file__", None), name.partition(".")[0]
            if name in self._before or file is None or top in _NOT_THE_USERS or not os.path.isfile(file):
                continue
            if top in self._roots or not _is_installed(file):
                found[name] = Path(file)
        return found


def _instead(name: str, module: ModuleType, thing: str) -> str:
    """What ``module`` has in place of ``name``, in words: what is spelt alike, or else all of its own of that kind."""
    kind = inspect.isclass if thing == "class" else inspect.isfunction
    right = {each: found for each, found in vars(module).items() if kind(found)}
    close = difflib.get_close_matches(name, right, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    own = [each for each, found in right.items() if found.__module__ == module.__name__]
    return f"; it has {', '.join(map(repr, own))}" if own else f"; it has no {thing} at all"


_NOT_THE_USERS = frozenset({__name__.partition(".")[0], "__main__", "__mp_main__", "sitecustomize", "usercustomize"})
_INSTALLED = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def _is_installed(file: str) -> bool:
    return os.path.realpath(file).startswith(_INSTALLED)


def asked_of(
    function: Callable[..., Any], given: Sequence[str], askable: Sequence[str], options: Mapping[str, Any], where: str
) -> frozenset[str]:
    """What of the ``askable`` names a function takes. ``ConfigError`` if it cannot be called with what is ``given`` by
    position and its ``options`` by name."""
    signature = inspect.signature(function)
    kinds = {name: each.kind for name, each in signature.parameters.items()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds.values()
    asks = [name for name in askable if takes_any or name in kinds]
    try:
        signature.bind(*given, **dict.fromkeys(asks), **options)
    except TypeError as error:
        what = f"({', '.join([*given, *asks, *options])})"
        due = f"; it has to take ({', '.join([*given, *options])})" if given or options or not askable else ""
        more = f"{', and' if due else '; it'} may ask for {', '.join(askable)}" if askable else ""
        raise ConfigError(f"{where}: it cannot be called with {what}: {error}; it is {signature}{due}{more}") from error
    return frozenset(asks)


def place_of(function: Callable[..., Any]) -> str:
    """Where a function of the user's begins, with a space before it; empty for one of ours, or where nobody knows."""
    called: Any = inspect.unwrap(function)
    code = getattr(called, "__code__", None) or getattr(called.__call__, "__code__", None)
    if code is None or _is_ours(code.co_filename):
        return ""
    return f" (line {code.co_firstlineno} of {Path(code.co_filename).name})"


def told(error: BaseException) -> str:
    """An exception in one line, with the line of the user's code that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    try:
        said = " ".join(str(error).split())
    except Exception:  # the user's exception may fail to say what it is
        said = ""
    return f"{type(error).__name__}{said and ': '}{said}{where}"


_OURS = tuple(f"{PACKAGE / wing}{os.sep}" for wing in ("common", "verifier", "rollout", "learner"))


def _is_ours(file: str) -> bool:
    return file.startswith(("<", *_OURS)) or _is_installed(file)
