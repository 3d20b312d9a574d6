"""Reads JSON of tests with integers of up to a million digits. Pure.

``int`` of a text is quadratic, which is why Python refuses it past 4,300 digits. Here the halves are put together by
multiplication: 17 ms for 100,000 digits, 0.6 s for 1,000,000 (2-core CPU), so what a row costs stays near linear in
its size. Values that a solution sends come in base 16, which is linear.
"""

from typing import Any

from ...common.long_integers import MARK, loads

MAX_DIGITS = 1_000_000
_PIECE = 600
"""Digits that ``int`` takes whatever its limit is set to."""


def loads_whole(text: str) -> Any:
    """``json.loads``, except that an integer may have ``MAX_DIGITS`` digits, bare or as ``common.long_integers`` marks
    it. Raises ``ValueError`` for more digits, and for what is not JSON."""
    return loads(text, long=whole, **({"object_hook": _unmarked} if MARK in text else {}))


def _unmarked(found: dict[str, Any]) -> Any:
    return whole(found[MARK]) if found.keys() == {MARK} else found


def whole(digits: Any) -> int:
    """The integer of a text of decimal digits, which may have a sign."""
    if not isinstance(digits, str) or not digits.removeprefix("-").isdecimal():
        raise ValueError(f"an integer is a text of digits, found {shortly(digits)}")
    unsigned = digits.removeprefix("-")
    if len(unsigned) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(unsigned):,} digits; {MAX_DIGITS:,} are read")
    parts = [int(unsigned[max(end - _PIECE, 0) : end]) for end in range(len(unsigned), 0, -_PIECE)]
    base = 10**_PIECE
    while len(parts) > 1:
        parts += [0] * (len(parts) % 2)
        parts = [low + high * base for low, high in zip(parts[::2], parts[1::2], strict=True)]
        base *= base
    return -parts[0] if digits.startswith("-") else parts[0]


def shortly(value: Any) -> str:
    """The beginning of a value, for a message. Integers that Python does not print are only named."""
    try:
        return repr(value)[:80]
    except ValueError:
        return f"{type(value).__name__} with a long integer"
