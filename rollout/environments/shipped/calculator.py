"""A calculator that the policy calls in its turn: ``calc(12*(3+4))``."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, localcontext
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from ....common.environments import Step

CALL = r"calc\((.+)\)"
"""A call, up to the last parenthesis of its line."""
DIGITS = 12
MOST_CHARACTERS, MOST_BITS, MOST_POWER = 1000, 4096, 4096
"""Bounds of an expression, of a number on the way, and of an exponent."""
_TWO: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = MappingProxyType(
    {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
        ast.Pow: operator.pow,
    }
)


class Calculator:
    """Answers the last call of a turn with its value. A turn without a call is the policy's last."""

    def __init__(self, call: str = CALL, error: str | None = None) -> None:
        """``call``: a regular expression for a call; its group is the expression. ``error``: what is answered where an
        expression cannot be calculated. By default that says why."""
        self._call, self._error = re.compile(call), error
        if self._call.groups != 1:
            raise ValueError(f"options.call = {call!r} has {self._call.groups} groups; one is right, the expression")

    def reset(self) -> None:
        """Nothing is kept between turns."""

    def step(self, response: str) -> str | Step:
        """The value of the last call in ``response``."""
        calls = self._call.findall(response)
        if not calls:
            return Step(done=True)
        try:
            return written(value_of(calls[-1]))
        except ValueError as error:
            return f"error: {error}" if self._error is None else self._error


def value_of(expression: str) -> Fraction:
    """The exact value of an arithmetic expression: numbers, ``+ - * / // % **`` (also ``^``) and parentheses.
    ``ValueError`` says what cannot be calculated."""
    if len(expression) > MOST_CHARACTERS:
        raise ValueError(f"an expression has at most {MOST_CHARACTERS} characters")
    try:
        plain = re.sub(r"(?<![\d.])0+(?=\d)", "", expression.strip().replace("^", "**"))  # 007 is 7, as people read it
        return _value(ast.parse(plain, mode="eval").body)
    except (SyntaxError, MemoryError, RecursionError):
        raise ValueError("that is no arithmetic expression") from None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            if not math.isfinite(number):
                raise ValueError("the number is too large")
            return _bounded(Fraction(str(number)))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            return -_value(operand) if isinstance(sign, ast.USub) else _value(operand)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _TWO:
            return _two(type(op), _value(left), _value(right))
    raise ValueError("only numbers, + - * / // % ^ and parentheses can be calculated")


def _two(op: type[ast.operator], left: Fraction, right: Fraction) -> Fraction:
    if op is ast.Pow and (right.denominator != 1 or abs(right) > MOST_POWER):
        raise ValueError(f"an exponent is a whole number of at most {MOST_POWER}")
    if op is ast.Pow and max(left.numerator.bit_length(), left.denominator.bit_length()) * abs(right) > MOST_BITS:
        raise ValueError("the number is too large")
    try:
        return _bounded(Fraction(_TWO[op](left, right)))
    except ZeroDivisionError:
        raise ValueError("division by zero") from None


def _bounded(number: Fraction) -> Fraction:
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MOST_BITS:
        raise ValueError("the number is too large")
    return number


def written(number: Fraction) -> str:
    """A number in digits: exact where it is whole or a short decimal, else to ``DIGITS`` significant digits."""
    if number.denominator == 1:
        return str(number.numerator)
    with localcontext(prec=DIGITS):
        return str((Decimal(number.numerator) / Decimal(number.denominator)).normalize())
