"""Describes every configuration key in plain words: its values and bounds, its default, and its meaning. All of it is
read from the key's definition in ``config/``."""

import json
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from .config import Config, section_of

_NAMES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false"),
    Any: ("anything", "anything"),
}
"""How one value, and several values, of a type are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key in words."""

    name: str
    """``section.key``."""
    kind: str
    """Which values are right, with bounds and choices."""
    default: str
    """The default as one writes it in TOML; empty if the key is required or not set by default."""
    required: bool
    meaning: str

    def describe(self) -> str:
        """One line on the values, and one on the meaning."""
        default = (
            "required" if self.required else f"{self.default} by default" if self.default else "not set by default"
        )
        return f"{self.name}: {self.kind}; {default}\n    {self.meaning}"


def meaning_of(field: FieldInfo) -> str:
    """What the docstring under a key says, as one line with names between single marks."""
    return " ".join((field.description or "").split()).replace("``", "`")


def described() -> list[Key]:
    """Every key, in the order of ``config/``."""
    keys = []
    for section, section_field in Config.model_fields.items():
        for key, field in section_of(section_field.annotation).model_fields.items():
            value = None if field.is_required() else field.get_default(call_default_factory=True)
            keys.append(
                Key(
                    name=f"{section}.{key}",
                    kind=_words(field.annotation, _bounds(field.metadata)),
                    default="" if value is None else _toml(value),
                    required=field.is_required(),
                    meaning=meaning_of(field),
                )
            )
    return keys


def _words(annotation: Any, bounds: str = "", *, several: bool = False) -> str:
    """A type in words, without its checks in Python. None only says that the key may be left out."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(parts[0], bounds + _bounds(parts[1:]), several=several)
    if origin in (Union, UnionType):
        return " or ".join(_words(part, bounds, several=several) for part in parts if part is not NoneType)
    if origin is Literal:
        return _one_of([_toml(part) for part in parts])
    if origin is dict:
        keys, values = parts
        key = "" if keys is str else f" whose keys are {_words(keys)}" if get_origin(keys) is Literal else _words(keys)
        value = "" if values is Any else f" with {_words(values, several=True)} for values"
        return ("tables" if several else "a table") + key + ("," * bool(key) + value)
    if origin is tuple:
        return _list(parts, several)
    return _NAMES[annotation][several] + bounds


def _list(parts: tuple[Any, ...], several: bool) -> str:
    """A list in words: of any length, or of a fixed one."""
    many = "" if parts[1:] == (...,) else f"{len(parts)} "
    return f"{'lists' if several else 'a list'} of {many}{_words(parts[0], several=True)}"


def _one_of(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _bounds(metadata: Any) -> str:
    """The bounds in words, such as `` of at least 0 and less than 1``; empty if any value is right."""
    words = []
    for bound in metadata:
        match bound:
            case FieldInfo():
                return _bounds(bound.metadata)
            case Ge():
                words.append(f"at least {bound.ge}")
            case Gt():
                words.append(f"more than {bound.gt}")
            case Le():
                words.append(f"at most {bound.le}")
            case Lt():
                words.append(f"less than {bound.lt}")
    return f" of {' and '.join(words)}" if words else ""


def _toml(value: Any) -> str:
    """A value as one writes it in TOML: a text in quotes, ``true``, ``[0.9, 0.999]``. JSON is the same for these."""
    return json.dumps(value, ensure_ascii=False)
