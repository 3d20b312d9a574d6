"""Finds reward functions, checks what they take, and gives a digest of the user's code that came with them."""

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ...common.config import Reward, expand
from ...common.errors import ConfigError
from ...common.files import checksum
from ...common.fingerprint import fingerprint
from ...common.rewards import JUDGES
from .secrets import Secrets

GROUP = "leeway.rewards"
"""The group of entry points by which installed packages offer rewards."""
SHIPPED = {
    "answer_tag": "formats:answer_tag",
    "cosine_length": "lengths:cosine_length",
    "llm_judge": "llm:llm_judge",
    "overlong": "lengths:overlong",
    "regex": "formats:regex",
    "repetition": "repetition:repetition",
    "think_tags": "formats:think_tags",
}
"""Rewards that ship, beside ``JUDGES``: where each function is, under ``shipped/``."""
ASKED = ("finished", "length", "correct", "turns")
"""What a function is told of a response where it has a parameter of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """One function of ``[[rewards]]``, ready to be called."""

    name: str
    call: Callable[..., Any]
    """It takes the response, the row, and what ``asks`` names; its options are bound."""
    asks: frozenset[str]
    """Those of ``ASKED`` that it takes."""
    is_async: bool
    whole_group: bool
    scores_truncated: bool
    timeout_s: float


class Loader:
    """Loads functions, and remembers which of the user's modules came with them."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets, self._before, self._roots = secrets, set(sys.modules), set[str]()

    def load(self, rewards: Sequence[Reward]) -> list[Loaded]:
        """The functions of ``rewards``, in their order. ``ConfigError`` names the one that cannot be loaded, and says
        why."""
        return [self._load(reward) for reward in rewards]

    def digest(self) -> str | None:
        """The digest of all modules that are the user's; None where there is none."""
        modules = {name: checksum(path) for name, path in self._users_modules().items()}
        return fingerprint(modules) if modules else None

    def _load(self, reward: Reward) -> Loaded:
        where = f"rewards: {reward.called}: use = {reward.use!r}"
        try:
            function = self.named(reward.use)
            options = self._secrets.resolve(reward.options, f"rewards: {reward.called}")
            if getattr(function, "leeway_prepared", False):
                _refuse_options(function, (), options, where)
                function = function(**options)
                options = {}
            if not callable(function):
                raise ConfigError(f"{where}: it is {type(function).__name__}, and no function")
            _refuse_what_gives_no_number(function, where)
            whole_group = bool(getattr(function, "leeway_whole_group", False))
            asks = _refuse_options(function, ("response", "row"), options, where)
        except ConfigError:
            raise
        except BaseException as error:  # the user's module may raise anything while it is imported
            raise ConfigError(f"{where}: {self._secrets.hide(told(error))}") from error
        marked = bool(getattr(function, "leeway_scores_truncated", False))
        return Loaded(
            name=reward.called,
            call=partial(function, **options) if options else function,
            asks=asks,
            is_async=inspect.iscoroutinefunction(function)
            or inspect.iscoroutinefunction(getattr(function, "__call__", None)),  # noqa: B004
            whole_group=whole_group,
            scores_truncated=marked if reward.truncated is None else reward.truncated == "score",
            timeout_s=reward.timeout_s,
        )

    def named(self, use: str) -> Any:
        """What ``use`` names. ``ConfigError`` if there is nothing of that name."""
        if use in SHIPPED:
            module, _, name = SHIPPED[use].partition(":")
            return getattr(importlib.import_module(f"{__package__}.shipped.{module}"), name)
        place, colon, name = use.rpartition(":")
        if colon and "/" in place and not place.endswith(".py"):
            raise ConfigError(f"rewards: use = {use!r}: a file's name ends with .py: path/to/file.py:function")
        if colon:
            module_of = self._file(Path(expand(place))) if place.endswith(".py") else importlib.import_module(place)
            self._roots.add(module_of.__name__.partition(".")[0])
            if not hasattr(module_of, name):
                close = difflib.get_close_matches(name, vars(module_of), n=1)
                guess = f"; did you mean {close[0]!r}?" if close else ""
                raise ConfigError(f"rewards: {use!r}: {place} has no {name!r}{guess}")
            return getattr(module_of, name)
        offered = {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}
        if use in offered:
            self._roots.add(offered[use].module.partition(".")[0])
            return offered[use].load()
        known = sorted({*JUDGES, *SHIPPED, *offered})
        close = difflib.get_close_matches(use, known, n=1)
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"rewards: use = {use!r}: nothing is called so; known: {', '.join(known)}; a function of yours is "
            f"path/to/file.py:function or package.module:function{guess}"
        )

    def _file(self, path: Path) -> ModuleType:
        path = path.absolute()
        if not path.is_file():
            raise ConfigError(f"rewards: {path}: no such file; it has to be at this path on every verifier's machine")
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
        """The files of the modules that came with the functions: those of the packages that ``[[rewards]]`` names, and
        all that are not installed."""
        found = {}
        for name, module in list(sys.modules.items()):
            file, top = getattr(module, "__file__", None), name.partition(".")[0]
            if name in self._before or file is None or top in _NOT_THE_USERS or not os.path.isfile(file):
                continue
            if top in self._roots or not _is_installed(file):
                found[name] = Path(file)
        return found


_NOT_THE_USERS = frozenset({__name__.partition(".")[0], "__main__", "sitecustomize", "usercustomize"})
_INSTALLED = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def _is_installed(file: str) -> bool:
    return os.path.realpath(file).startswith(_INSTALLED)


def _refuse_what_gives_no_number(function: Callable[..., Any], where: str) -> None:
    """``ConfigError`` if a call makes an object or a generator, which is never a number."""
    if inspect.isclass(function):
        raise ConfigError(
            f"{where}: it is a class, and a call of it gives no number; name a function, or mark the class @prepared "
            "where it has __call__(response, row)"
        )
    together = getattr(function, "leeway_whole_group", False)  # it may yield a number for each response
    if inspect.isasyncgenfunction(function) or (inspect.isgeneratorfunction(function) and not together):
        raise ConfigError(f"{where}: it yields; a reward function returns its number")


def _refuse_options(
    function: Callable[..., Any], given: Sequence[str], options: dict[str, Any], where: str
) -> frozenset[str]:
    """What of ``ASKED`` the function takes. ``ConfigError`` if it does not take the ``given`` and its ``options``."""
    signature = inspect.signature(function)
    kinds = {name: each.kind for name, each in signature.parameters.items()}
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds.values()
    asks = [name for name in ASKED if takes_any or name in kinds] if given else []
    try:
        signature.bind(*given, **dict.fromkeys(asks), **options)
    except TypeError as error:
        what = f"({', '.join([*given, *asks, *options])})"
        raise ConfigError(f"{where}: it cannot be called with {what}: {error}; it is {signature}") from error
    return frozenset(asks)


def told(error: BaseException) -> str:
    """An exception in one line, with the line of the user's code that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    where = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    try:
        said = " ".join(str(error).split())
    except Exception:  # the user's exception may fail to say what it is
        said = ""
    return f"{type(error).__name__}{said and ': '}{said}{where}"


def _is_ours(file: str) -> bool:
    here = Path(__file__).parent
    return file.startswith("<") or Path(file).parent in (here, here / "shipped") or _is_installed(file)
