"""Reads units at the end of an answer: which quantity they measure, and how large they are."""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple, TypeAlias

Dimension: TypeAlias = tuple[tuple[str, int], ...]


class Unit(NamedTuple):
    """A known unit."""

    dimension: Dimension
    """Base quantities with their exponents, sorted."""
    size: Fraction
    """Size in the base units: metre, second, gram, litre, dollar."""


# base quantity: names of a unit of it -> its size. What is not here is a word like any other and is left out.
_TABLE: dict[str, dict[str, str | int]] = {
    "length": {
        "mm millimeter millimetre": "1/1000", "cm centimeter centimetre": "1/100", "dm decimeter decimetre": "1/10",
        "m meter metre": 1, "km kilometer kilometre": 1000, "in inch inches": "0.0254", "ft foot feet": "0.3048",
        "yd yard": "0.9144", "mi mile": "1609.344",
    },
    "time": {
        "ms millisecond": "1/1000", "s sec second": 1, "min minute": 60, "h hr hour": 3600, "day": 86400,
        "week": 604800,
    },
    "mass": {
        "mg milligram": "1/1000", "g gram": 1, "kg kilogram": 1000, "ton tonne": 1_000_000,
        "lb lbs pound": "453.59237", "oz ounce": "28.349523125",
    },
    "volume": {"ml mL milliliter millilitre": "1/1000", "l L liter litre": 1, "gal gallon": "3.785411784"},
    "money": {"cent": "1/100", "dollar USD": 1},
}  # fmt: skip
_KNOWN = {
    name: (quantity, Fraction(size))
    for quantity, units in _TABLE.items()
    for names, size in units.items()
    for name in names.split()
}
_KNOWN |= {f"{name}s": found for name, found in list(_KNOWN.items()) if len(name) > 2 and not name.endswith("s")}
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_SPEEDS = {"mph": "mi/h", "kmh": "km/h", "kph": "km/h", "mps": "m/s"}

# What may follow a value: words in \text, with an exponent; or one bare unit of the table.
_BARE = "|".join(sorted((re.escape(name) for name in _KNOWN if len(name) > 1 and name != "in"), key=len, reverse=True))
_IN_TEXT = re.compile(r"\\text\s*+\{[^{}]*+\}\s*+(?:\^\s*+\{?-?\d\}?)?\s*+(?:/|\\cdot(?![a-zA-Z]))?\s*+")
_WITHOUT_TEXT = re.compile(
    rf"(?:(?<=[\d}}\s])(?:(?:{_BARE})(?:\^\s*+\{{?\d\}}?)?(?:\s*+/\s*+(?:hour|hr|h|second|s|minute|min))?|mph|kmh)"
    r"|(?<=[\d}]\s)(?:m/s|m\^\s*+\{?[23]\}?|[mshgLl]))\Z"
)
_LONGEST_BARE = 40
_VALUE_END = re.compile(r"[\d})A-Za-z!]")
_WORD = re.compile(r"\\text\s*+\{([^{}]*+)\}|\\cdot")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)")
_DEGREES = re.compile(r"(?:\^\s*+\{?\s*+\\circ\s*+\}?|\\text\s*+\{\s*+degrees?\s*+\}|(?<=[\d\s])degrees?|\\degree)\Z")
_PER = re.compile(r"/|\bper\b")


def split(text: str) -> tuple[str, str]:
    """(value, unit) of a tidied answer. The unit is empty if there is none, and "°" for degrees."""
    degrees = None if _FUNCTION.search(text) else _DEGREES.search(text)
    if degrees is not None and (value := text[: degrees.start()].strip()):
        return value, "°"
    start = _unit_start(text)
    if start is None:
        return text, ""
    unit = _WORD.sub(lambda word: f" {word[1] or ''} ", text[start:])
    return text[:start].strip(), " ".join(unit.split())


def _unit_start(text: str) -> int | None:
    """Where the unit at the end begins: after the first value that only a unit follows. None if there is no unit."""
    start = None
    at = len(text)
    for found in reversed(list(_IN_TEXT.finditer(text))):
        if found.end() != at:
            break
        at = found.start()
        start = at if _VALUE_END.match(text[:at].rstrip()[-1:]) else start
    if start is not None:
        return start
    bare = _WITHOUT_TEXT.search(text, max(0, len(text) - _LONGEST_BARE))
    return bare.start() if bare is not None and _VALUE_END.match(text[: bare.start()].rstrip()[-1:]) else None


@lru_cache(maxsize=1024)
def unit(name: str) -> Unit | None:
    """The unit called ``name`` (``cm^2``, ``square feet``, ``km/h``); None if it is not known."""
    top, *per = map(str.strip, _PER.split(_SPEEDS.get(name, name)))
    exponents: dict[str, int] = {}
    size = Fraction(1)
    for part, power in [(top, 1), *((part, -1) for part in per)]:
        words = part.replace("^", " ^ ").replace("{", " ").replace("}", " ").split()
        if words and words[0] in _POWERS:
            power *= _POWERS[words.pop(0)]
        if len(words) == 3 and words[1] == "^" and words[2].lstrip("-").isdigit():
            power *= int(words[2])
            words = words[:1]
        found = _KNOWN.get(words[0]) or _KNOWN.get(words[0].lower()) if len(words) == 1 else None
        if found is None or abs(power) > 4:
            return None
        quantity, one = found
        if quantity == "volume":
            quantity, power, one = "length", 3 * power, one / 1000
            size *= one ** (power // 3)
        else:
            size *= one**power
        exponents[quantity] = exponents.get(quantity, 0) + power
    return Unit(tuple(sorted((name, power) for name, power in exponents.items() if power)), size)
