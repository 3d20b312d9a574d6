"""Reads and writes one ``--set section.key=value``. Pure.

A value is TOML if it can be: a number, ``true``, a list, a quoted text. Anything else is a bare word and means itself.
"""

import json
import re
import tomllib
from typing import Any

from .errors import ConfigError

_ESCAPE = re.compile(r"""\\(?:[ntr"\\]|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8})""")
"""Escapes that double quotes turn into a character which somebody may mean. ``\\b`` of ``\\boxed`` and ``\\f`` of
``\\frac`` are not among them."""


def read(text: str) -> dict[str, Any]:
    """The nested keys of ``section.key=value``. ``ConfigError`` if it is not of this form, or could be read in two
    ways."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or (len(parts) < 2 and parts not in (["data"], ["rewards"], ["stages"])):
        raise ConfigError(f"--set {text!r}: write section.key=value, for instance flow.max_staleness=2")
    nested: dict[str, Any] = {parts[-1]: _value(text, key, value)}
    for part in reversed(parts[:-1]):
        nested = {part: nested}
    return nested


def written(key: str, value: Any) -> str:
    """``key=value`` that ``read`` reads back; the value is a text, number, boolean, list or table."""
    return f"{key}={_inline(value)}"


def _inline(value: Any) -> str:
    """A value as TOML in one line. JSON is TOML except for tables, and for the surrogate pairs that it writes if it
    must be ASCII."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inline(name)} = {_inline(each)}" for name, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_inline, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _value(text: str, key: str, value: str) -> Any:
    try:
        found = tomllib.loads(f"x = {value}")
        if found.keys() == {"x"}:  # several lines may hold another key
            return found["x"]
    except tomllib.TOMLDecodeError as error:
        if value.lstrip().startswith(('"', "'")):
            raise ConfigError(
                f"--set {text}: the value begins with a quote and is no TOML text: {error}; in single quotes a "
                "backslash stays one, in double quotes it is written twice, and the same quote closes"
            ) from error
    if (escape := _ESCAPE.search(value)) is not None:
        short = key.strip()
        raise ConfigError(
            f"--set {text}: {escape[0]} may be meant as an escape or as a backslash. Quotes inside the value say "
            f"which: {short}=\"…{escape[0]}…\" is the escape (\\n a line end), {short}='…{escape[0]}…' the backslash"
        )
    return value.strip() if key.endswith(" ") else value  # in `key = value` the spaces are no part of it
