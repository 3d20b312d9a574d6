"""Finds the class of an environment, and checks what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...common.config import Environment
from ...common.errors import ConfigError
from ...common.user_code import loading
from ...common.user_code.loading import Kind, asked_of, place_of, told
from ...common.user_code.secrets import Secrets

KIND = Kind(
    section="environment",
    thing="class",
    group="leeway.environments",
    worker="rollout worker",
    shipped={
        "calculator": f"{__package__}.shipped.calculator:Calculator",
        "python": f"{__package__}.shipped.python:Python",
    },
)
ASKED = ("row", "seed")
"""What ``reset`` is given where it has a parameter of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The class of ``[environment]``, ready to be made an object for each response."""

    make: Callable[[], Any]
    """It makes one; its options are bound."""
    asks: frozenset[str]
    """Those of ``ASKED`` that its ``reset`` takes."""
    at_once: bool
    """Whether ``reset`` and ``step`` are both ``async``: then those of many responses run at once, else in turn."""
    places: dict[str, str]
    """Where ``reset`` and ``step`` begin, as ``place_of`` says it."""


class Loader(loading.Loader):
    """Loads the class, and remembers which of the user's modules came with it."""

    def __init__(self, secrets: Secrets) -> None:
        super().__init__(KIND)
        self._secrets = secrets

    def load(self, environment: Environment) -> Loaded:
        """The class that ``environment`` names. ``ConfigError`` says why it cannot be had, or what it lacks."""
        where = f"environment: use = {environment.use!r}"
        try:
            found = self.named(environment.use)
            options = self._secrets.resolve(environment.options, "environment")
            if not inspect.isclass(found):
                raise ConfigError(f"{where}: it is {type(found).__name__}, and no class")
            reset, step = (_method(found, name, where) for name in ("reset", "step"))
            asked_of(found, (), (), options, where)
            found(**options)  # what its options must not be is told now, and not by the first group
            asks = asked_of(reset, ("self",), ASKED, {}, f"{where}: reset")
            asked_of(step, ("self", "response"), (), {}, f"{where}: step")
        except ConfigError:
            raise
        except BaseException as error:  # the user's module may raise anything while it is imported
            raise ConfigError(f"{where}: {self._secrets.hide(told(error))}") from error
        at_once = all(inspect.iscoroutinefunction(method) for method in (reset, step))
        places = {"reset": place_of(reset), "step": place_of(step)}
        return Loaded(make=partial(found, **options), asks=asks, at_once=at_once, places=places)


def _method(of: type, name: str, where: str) -> Callable[..., Any]:
    method: Callable[..., Any] | None = getattr(of, name, None)
    if not callable(method):
        raise ConfigError(f"{where}: it has no {name}; an environment has reset and step")
    return method
