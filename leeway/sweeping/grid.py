"""A grid of configurations: every combination of some keys' values, once with each seed. Pure.

``["flow.max_staleness=0,4", "entropy.control=adaptive,none"]`` with 3 seeds makes 4 settings and 12 points.
"""

import itertools
import random
import re
from dataclasses import dataclass

from ...common.config import Config, compose
from ...common.errors import ConfigError
from ...common.keys import Keys

SEED = "flow.seed"


@dataclass(frozen=True, slots=True)
class Axis:
    """One key of a grid and the values it takes."""

    key: str
    """``section.key``."""
    values: tuple[str, ...]
    """The values as they would stand in ``--set section.key=value``, in the order given."""
    label: str
    """What the key is called in names and tables: its last part, or the whole key where another axis ends the same."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One combination of the axes' values; settings are what a sweep compares."""

    values: tuple[str, ...]
    """One value for each axis, in the order of the axes."""
    settings: tuple[str, ...]
    """The same values as ``section.key=value`` texts, for ``compose`` and ``--set``."""
    label: str
    """The setting for people: ``max_staleness=4, control=none``."""


@dataclass(frozen=True, slots=True)
class Point:
    """One run: a setting and a seed."""

    setting: Setting
    seed: int
    name: str
    """Stable, unique in its grid, and good as a run id: ``max_staleness-4_control-none_seed-1``."""

    @property
    def settings(self) -> list[str]:
        """``section.key=value`` texts of the setting and the seed, for ``compose`` and ``--set``."""
        return [*self.setting.settings, f"{SEED}={self.seed}"]


def axes(texts: list[str]) -> list[Axis]:
    """The axes of ``section.key=v1,v2,…`` texts. A comma inside brackets, braces or quotes is part of a value.

    Raises ``ConfigError`` for a text of another form, a value or a key given twice, and ``flow.seed``.
    """
    keyed = [_split(text) for text in texts]
    keys = [key for key, _ in keyed]
    for key in keys:
        if key == SEED:
            raise ConfigError(
                f"--grid {SEED}: the seeds are given by --seeds, so that settings can be compared over them"
            )
        if keys.count(key) > 1:
            raise ConfigError(f"--grid {key} is given twice; write all its values into one: --grid {key}=v1,v2")
    lasts = [key.rpartition(".")[2] for key in keys]
    return [
        Axis(key, values, last if lasts.count(last) == 1 else key)
        for (key, values), last in zip(keyed, lasts, strict=True)
    ]


def settings(grid: list[Axis]) -> list[Setting]:
    """Every combination of the axes' values; the last axis changes fastest."""
    return [
        Setting(
            values=values,
            settings=tuple(f"{axis.key}={value}" for axis, value in zip(grid, values, strict=True)),
            label=", ".join(f"{axis.label}={value}" for axis, value in zip(grid, values, strict=True)),
        )
        for values in itertools.product(*(axis.values for axis in grid))
    ]


def points(grid: list[Axis], seeds: list[int]) -> list[Point]:
    """Every setting with every seed, in the order in which to run them: a randomised block design.

    All settings of one seed come before the next seed, so that a sweep that is stopped early is a whole grid of fewer
    seeds. Within each seed the order is drawn at random, but is the same at every call. So a machine that becomes
    slower makes intervals wider instead of one setting worse. Raises ``ConfigError`` where a name is no run id (over 64
    characters).
    """
    ordered = []
    for seed in seeds:
        block = [Point(setting, seed, _name(grid, setting, seed)) for setting in settings(grid)]
        random.Random(seed).shuffle(block)
        ordered += block
    names = [point.name for point in ordered]
    for name in names:
        Keys(name)
        if names.count(name) > 1:
            raise ConfigError(f"two points of the grid would both be called {name!r}: their values differ too little")
    return ordered


def configurations(grid: list[Axis], presets: list[str], others: list[str]) -> dict[Setting, Config]:
    """The configuration of each setting; ``others`` are the ``--set`` texts of the whole grid.

    Raises ``ConfigError`` for a key or a value that the configuration refuses, and where two settings are the same.
    """
    found: dict[Setting, Config] = {}
    for setting in settings(grid):
        config = compose(presets, [*others, *setting.settings])
        same = next((other for other, seen in found.items() if seen == config), None)
        if same is not None:
            raise ConfigError(f"--grid: {same.label!r} and {setting.label!r} are the same configuration")
        found[setting] = config
    return found


def _split(text: str) -> tuple[str, tuple[str, ...]]:
    key, equals, rest = text.partition("=")
    key, values = key.strip(), tuple(value.strip() for value in _commas(rest))
    if not equals or "." not in key or not all(values):
        raise ConfigError(f"--grid {text!r}: write section.key=v1,v2, for instance flow.max_staleness=0,1,2")
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"--grid {text!r}: the value {value} is there twice")
    return key, values


def _commas(text: str) -> list[str]:
    """``text`` cut at its commas, except for those inside brackets, braces and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _name(grid: list[Axis], setting: Setting, seed: int) -> str:
    words = [f"{axis.label}-{value}" for axis, value in zip(grid, setting.values, strict=True)]
    return "_".join(re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-") for word in [*words, f"seed-{seed}"])
