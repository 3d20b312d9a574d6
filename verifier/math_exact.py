"""Exact arithmetic on what most answers are: integers, decimals, fractions, roots, π and polynomials in a few letters.

An expression is read into a quotient of two polynomials over the rationals, whose indeterminates are letters, π, e, i
(i² = -1) and square roots of square-free integers. That form is exact, so two expressions that can both be read are
compared for good and in microseconds, where a computer algebra system takes milliseconds. What is not plainly such an
expression is not read at all (None), and somebody else decides. Every step is bounded: nothing here can be slow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

MAX_CHARS = 400
"""Longer expressions are left to others."""
_MAX_DEPTH = 25
_MAX_TERMS = 60
_MAX_EXPONENT = 64
_MAX_BITS = 20_000
"""Largest numerator or denominator: 2006! and 2^10000 fit."""
_MAX_RADICAND = 10**9

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*|\.\d+)|(?P<command>\\(?:d|t|c)?frac|\\[a-zA-Z]+)|(?P<sign>[-+*/^!(){}\[\]])"
    r"|(?P<letter>[a-zA-Z](?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]+\}))?))"
)
_GREEK = frozenset(
    f"\\{name}" for name in ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega", "sigma", "rho")
)
_TIMES = frozenset([r"\cdot", r"\times", "*"])
_FRACTIONS = frozenset([r"\frac", r"\dfrac", r"\tfrac", r"\cfrac"])

Monomial: TypeAlias = tuple[tuple[str, int], ...]
"""Letters with their exponents, sorted; a root stands as ("√n", 1) with n square-free, i as ("i", 1)."""
Polynomial: TypeAlias = dict[Monomial, Fraction]


class _Unread(Exception):
    """The text is not an expression of this small kind, or too large for it."""


@dataclass(frozen=True, slots=True)
class Exact:
    """An expression read exactly: numerator over denominator."""

    top: Polynomial
    bottom: Polynomial
    decimals: bool
    """A decimal point was written: the value may be meant as a rounded one."""

    @property
    def rational(self) -> Fraction | None:
        """The value where it is a rational number."""
        top, bottom = _constant(self.top), _constant(self.bottom)
        return None if top is None or bottom is None else top / bottom

    @property
    def letters(self) -> frozenset[str]:
        """The indeterminates that stand for unknowns."""
        return frozenset(
            name
            for polynomial in (self.top, self.bottom)
            for monomial in polynomial
            for name, _ in monomial
            if name not in ("π", "e", "i") and name[0] != "√"
        )

    def value(self) -> complex | None:
        """The value as a floating-point number, None where letters or sizes forbid it."""
        if self.letters:
            return None
        try:
            return _evaluate(self.top) / _evaluate(self.bottom)
        except (OverflowError, ZeroDivisionError):
            return None


@lru_cache(maxsize=4096)
def read(text: str) -> Exact | None:
    """``text`` (LaTeX or plain) as an exact expression, or None where it is not surely one."""
    if len(text) > MAX_CHARS:
        return None
    try:
        return _Reader(text).whole()
    except (_Unread, ZeroDivisionError):
        return None


def same(left: Exact, right: Exact) -> bool | None:
    """Whether the two are the same function of their letters; None where that grows too large to say."""
    try:
        return _times(left.top, right.bottom) == _times(right.top, left.bottom)
    except _Unread:
        return None


def proportional(left: Exact, right: Exact) -> bool:
    """Whether the numerators are the same but for a constant other than 0: then they vanish together."""
    if left.top.keys() != right.top.keys() or not left.top:
        return False
    ratios = {left.top[monomial] / right.top[monomial] for monomial in left.top}
    return len(ratios) == 1


def difference(left: Exact, right: Exact) -> Exact | None:
    """``left - right``, None where it grows too large."""
    try:
        found = _add(left, _negative(right))
    except _Unread:
        return None
    return Exact(found.top, found.bottom, left.decimals or right.decimals)


class _Reader:
    """Recursive descent over one text. Anything ambiguous is refused rather than guessed."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise _Unread
            kind = str(token.lastgroup)
            self.tokens.append((kind, token[kind]))
            at = token.end()
        self.at = self.depth = 0
        self.decimals = False

    def whole(self) -> Exact:
        found = self.sum()
        if self.at < len(self.tokens):
            raise _Unread
        return Exact(found.top, found.bottom, self.decimals)

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, *wanted: str) -> bool:
        if self.peek()[1] in wanted and self.peek()[0] != "end":
            self.at += 1
            return True
        return False

    def expect(self, wanted: str) -> None:
        if not self.take(wanted):
            raise _Unread

    def sum(self) -> Exact:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _Unread
        negative = self.sign()
        total = self.product()
        total = _negative(total) if negative else total
        while self.peek()[1] in ("+", "-"):
            negative = self.sign()
            term = self.product()
            total = _add(total, _negative(term) if negative else term)
        self.depth -= 1
        return total

    def sign(self) -> bool:
        """Whether a sign, if there is one, is a minus. Two in a row are not read."""
        if self.take("-"):
            return True
        self.take("+")
        return False

    def product(self) -> Exact:
        total, _ = self.factor()
        divided = False
        while True:
            kind, text = self.peek()
            if text in _TIMES:
                if divided:
                    raise _Unread  # a/b*c
                self.at += 1
                total = _multiply(total, self.factor()[0])
            elif text in ("/", r"\div"):
                if divided:
                    raise _Unread
                self.at += 1
                total, divided = _divide(total, self.factor()[0]), True
            elif kind in ("number", "letter", "command") or text in ("(", "{"):
                before, last = self.tokens[self.at - 1], self.tokens[self.at]
                if divided or last[0] == "number":
                    raise _Unread  # 1/2x, x 2
                if before[0] == "number" and last[1] in _FRACTIONS:
                    total = self.mixed(total)
                    continue
                if before[0] == "letter" and text == "(" and before[1] != "i":
                    if before[1] in "fghFGHPQRTSW":
                        raise _Unread  # a function's argument
                elif before[0] == "letter" and last[0] == "letter" and self.word():
                    raise _Unread
                total = _multiply(total, self.factor()[0])
            else:
                return total

    def mixed(self, whole: Exact) -> Exact:
        """2\\frac{1}{3}: an integer before a proper fraction of integers is a mixed number."""
        number = whole.rational
        if number is None or number.denominator != 1 or (self.at >= 2 and self.tokens[self.at - 2][1] not in "+-({"):
            raise _Unread
        part = self.factor()[0].rational
        if part is None or not 0 < part < 1 or self.tokens[self.at - 1][1] not in "}0123456789":
            raise _Unread
        return _number(number + part)

    def word(self) -> bool:
        """Three letters in a row are a word, and a word is no product."""
        start = self.at
        while start > 0 and self.tokens[start - 1][0] == "letter":
            start -= 1
        end = self.at
        while end < len(self.tokens) and self.tokens[end][0] == "letter":
            end += 1
        return end - start > 2

    def factor(self) -> tuple[Exact, bool]:
        base, plain = self.atom()
        if self.take("!"):
            number = base.rational
            if number is None or number.denominator != 1 or not 0 <= number <= 2100:
                raise _Unread
            base = _number(Fraction(math.factorial(int(number))))
        elif self.take("^"):
            base = _power(base, self.exponent())
        if self.peek()[1] in ("^", "!"):
            raise _Unread  # 3!!, 2^3^4
        return base, plain

    def exponent(self) -> int:
        if self.take("{"):
            found = self.sum()
            self.expect("}")
        elif self.peek()[0] == "number":
            found = _number(Fraction(self.peek()[1]))
            self.at += 1
        else:
            raise _Unread
        number = found.rational
        if number is None or number.denominator != 1:
            raise _Unread
        return int(number)

    def atom(self) -> tuple[Exact, bool]:
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            self.decimals = self.decimals or "." in text
            return _number(Fraction(text if text[-1] != "." else text[:-1])), True
        if kind == "letter":
            if text in ("E", "I"):
                raise _Unread  # e or a letter, i or a letter
            return _symbol(text.replace("{", "").replace("}", "")), True
        if text == "(":
            found = self.sum()
            self.expect(")")
            return found, False
        if text == "{":
            found = self.sum()
            self.expect("}")
            return found, False
        if text == r"\pi":
            return _symbol("π"), True
        if text in _GREEK:
            return _symbol(text), True
        if text in _FRACTIONS:
            top = self.argument()
            return _divide(top, self.argument()), False
        if text == r"\sqrt":
            return _root(self.argument()), False
        if text == r"\left" or text == r"\right":
            return self.atom() if text == r"\left" else self.refuse()
        return self.refuse()

    def refuse(self) -> tuple[Exact, bool]:
        raise _Unread

    def argument(self) -> Exact:
        """What \\frac and \\sqrt take: a group, or one digit or letter."""
        if self.take("{"):
            found = self.sum()
            self.expect("}")
            return found
        kind, text = self.peek()
        if kind == "number" and text.isdigit():  # \frac12 takes one digit, \frac123 is nobody's
            self.tokens[self.at : self.at + 1] = [("number", digit) for digit in text]
            if len(text) > 2:
                raise _Unread
            self.at += 1
            return _number(Fraction(text[0]))
        if kind == "letter":
            return self.atom()[0]
        raise _Unread


# --- arithmetic ------------------------------------------------------------------------------------------------------

_ONE: Mapping[Monomial, Fraction] = {(): Fraction(1)}


def _number(value: Fraction) -> Exact:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _Unread
    return Exact({(): value} if value else {}, dict(_ONE), False)


def _symbol(name: str) -> Exact:
    return Exact({((name, 1),): Fraction(1)}, dict(_ONE), False)


def _constant(polynomial: Polynomial) -> Fraction | None:
    if not polynomial:
        return Fraction(0)
    return polynomial[()] if len(polynomial) == 1 and () in polynomial else None


def _plus(left: Polynomial, right: Polynomial) -> Polynomial:
    total = dict(left)
    for monomial, coefficient in right.items():
        total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return {monomial: coefficient for monomial, coefficient in total.items() if coefficient}


def _times(left: Polynomial, right: Polynomial) -> Polynomial:
    if len(left) * len(right) > _MAX_TERMS * 10:
        raise _Unread
    total: Polynomial = {}
    for a, coefficient in left.items():
        for b, other in right.items():
            monomial, factor = _join(a, b)
            total[monomial] = total.get(monomial, Fraction(0)) + coefficient * other * factor
    total = {monomial: coefficient for monomial, coefficient in total.items() if coefficient}
    most = 2 * _MAX_BITS if len(total) == 1 else _MAX_BITS // 20
    if len(total) > _MAX_TERMS or any(
        max(value.numerator.bit_length(), value.denominator.bit_length()) > most for value in total.values()
    ):
        raise _Unread
    return total


@lru_cache(maxsize=4096)
def _join(a: Monomial, b: Monomial) -> tuple[Monomial, int]:
    """The product of two monomials, and the integer that comes out of it: √2·√6 = 2·√3, i·i = -1."""
    exponents: dict[str, int] = {}
    radicand, factor = 1, 1
    for name, exponent in (*a, *b):
        if name[0] == "√":
            root = int(name[1:])
            common = math.gcd(radicand, root)
            factor *= common
            radicand = radicand // common * (root // common)
        else:
            exponents[name] = exponents.get(name, 0) + exponent
    if exponents.get("i", 0) > 1:
        factor *= -1 if exponents["i"] % 4 in (2, 3) else 1
        exponents["i"] %= 2
    if radicand > 1:
        exponents[f"√{radicand}"] = 1
    if any(exponent > _MAX_EXPONENT for exponent in exponents.values()):
        raise _Unread
    return tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent)), factor


def _add(left: Exact, right: Exact) -> Exact:
    if left.bottom == right.bottom:
        return Exact(_plus(left.top, right.top), left.bottom, False)
    top = _plus(_times(left.top, right.bottom), _times(right.top, left.bottom))
    return Exact(top, _times(left.bottom, right.bottom), False)


def _negative(value: Exact) -> Exact:
    return Exact({monomial: -coefficient for monomial, coefficient in value.top.items()}, value.bottom, False)


def _multiply(left: Exact, right: Exact) -> Exact:
    return Exact(_times(left.top, right.top), _times(left.bottom, right.bottom), False)


def _divide(left: Exact, right: Exact) -> Exact:
    if not right.top:
        raise _Unread
    divisor = right.rational
    if divisor is not None:
        return Exact({monomial: value / divisor for monomial, value in left.top.items()}, left.bottom, False)
    return Exact(_times(left.top, right.bottom), _times(left.bottom, right.top), False)


def _power(base: Exact, exponent: int) -> Exact:
    number = base.rational
    if number is not None:
        if not number and exponent <= 0:
            raise _Unread
        bits = max(number.numerator.bit_length(), number.denominator.bit_length())
        if bits * abs(exponent) > _MAX_BITS and abs(number) != 1:
            raise _Unread
        return _number(number**exponent if abs(number) != 1 else number ** (exponent % 2))
    if abs(exponent) > _MAX_EXPONENT:
        raise _Unread
    if exponent < 0:
        base, exponent = Exact(base.bottom, base.top, False), -exponent
    total = Exact(dict(_ONE), dict(_ONE), False)
    for _ in range(exponent):
        total = _multiply(total, base)
    return total


def _root(radicand: Exact) -> Exact:
    """The square root of a rational number that is not negative."""
    value = radicand.rational
    if value is None or value < 0 or value.numerator * value.denominator > _MAX_RADICAND:
        raise _Unread
    if not value:
        return _number(Fraction(0))
    inside, outside = value.numerator * value.denominator, 1  # √(p/q) = √(pq)/q
    divisor = 2
    while divisor * divisor <= inside and divisor <= 1000:
        while inside % (divisor * divisor) == 0:
            inside //= divisor * divisor
            outside *= divisor
        divisor += 1
    root = math.isqrt(inside)
    if root * root == inside:
        inside, outside = 1, outside * root
    elif inside > 10**6:
        raise _Unread  # it may still have a square factor
    factor = Fraction(outside, value.denominator)
    return _number(factor) if inside == 1 else Exact({((f"√{inside}", 1),): factor}, dict(_ONE), False)


def _evaluate(polynomial: Polynomial) -> complex:
    total: complex = 0.0
    for monomial, coefficient in polynomial.items():
        term: complex = float(coefficient)
        for name, exponent in monomial:
            base = {"π": math.pi, "e": math.e, "i": 1j}.get(name)
            term *= (math.sqrt(int(name[1:])) if base is None else base) ** exponent
        total += term
    return total
