"""Says what is wrong with a key, and in which line of which source it stands."""

import difflib
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..errors import ConfigError
from .rewards import Reward
from .section import Section
from .stages import Stage
from .whole import TAGS, Config, known_keys, section_of

LISTS: dict[str, type[Section]] = {"stages": Stage, "rewards": Reward}
"""Sections that are always lists. ``data`` may be one."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of keys: a preset file or one ``--set``."""

    name: str
    text: str
    values: dict[str, Any]


def refuse_unknown(layer: Layer, model: type[Section], values: dict[str, Any], at: tuple[str, ...]) -> None:
    """Raise a ``ConfigError`` that names the first key of ``values`` which ``model`` lacks. ``at`` is the path of
    ``values`` in ``layer``."""
    for key, value in values.items():
        here = (*at, key)
        if key not in model.model_fields:
            raise ConfigError(f"{where(layer, here)}: unknown key {'.'.join(here)!r}{_suggestion(here)}")
        annotation = model.model_fields[key].annotation
        kind = annotation if at else section_of(annotation)
        if not at and (key in LISTS or (key == "data" and isinstance(value, list))):
            if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
                raise ConfigError(f"{where(layer, here)}: {key} = {value!r}: expected a list of tables, [[{key}]]")
            for number, each in enumerate(value):
                refuse_unknown(layer, section_of(annotation), each, (*here, str(number)))
        elif isinstance(kind, type) and issubclass(kind, Section):
            if not isinstance(value, dict):
                raise ConfigError(f"{where(layer, here)}: {'.'.join(here)} = {value!r}: expected a table of keys")
            refuse_unknown(layer, kind, value, here)


def _suggestion(path: tuple[str, ...]) -> str:
    known = known_keys()
    dotted = ".".join(path)
    same_name = [key for key in known if key.split(".")[-1] == path[-1]]
    close = same_name or difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
    if not close and len(path) == 1:
        close = difflib.get_close_matches(dotted, list(Config.model_fields), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    siblings = [key for key in known if key.startswith(path[0] + ".")] or list(Config.model_fields)
    return f"; known here: {', '.join(siblings)}"


def said_of(error: ValidationError, layers: list[Layer]) -> str:
    """The first fault that pydantic found in the values of ``layers``: where it stands, and what would be right."""
    first = error.errors()[0]
    path = _path(first["loc"])
    if first["type"] == "missing":
        return f"{layers[-1].name}: {'.'.join(path)} is required and no preset gives it"
    layer = next((layer for layer in reversed(layers) if _has(layer.values, path)), None)
    right = first["msg"].removeprefix("Value error, ")
    while (
        layer is None and len(path) > 1
    ):  # where a key may have several types, each type's complaint has a path of its own
        path = path[:-1]
        layer = next((layer for layer in reversed(layers) if _has(layer.values, path)), None)
        right = " or ".join(other["msg"] for other in error.errors() if _path(other["loc"])[: len(path)] == path)
    layer = layer or layers[-1]
    return f"{where(layer, path)}: {'.'.join(path)} = {first['input']!r}: {right}"


def _path(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    return tuple(str(part) for part in loc if part not in TAGS)


def _has(values: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, dict) and part in values:
            values = values[part]
        else:
            return False
    return True


def where(layer: Layer, path: tuple[str, ...]) -> str:
    """``file:line`` of a key. It scans the text, because TOML parsers keep no positions."""
    table: tuple[str, ...] = ()
    tables = Counter[str]()
    for number, line in enumerate(layer.text.splitlines(), start=1):
        text = line.split("#")[0].strip()
        if text.startswith("["):
            table = tuple(part.strip() for part in text.strip("[]").split("."))
            if text.startswith("[["):
                table = (*table, str(tables[text]))
                tables[text] += 1
            if table == path or (path == table[:1] and len(table) > 1):
                return f"{layer.name}:{number}"
        elif (*table, *(part.strip() for part in text.split("=")[0].split("."))) == path:
            return f"{layer.name}:{number}"
    return layer.name
