"""Quotients of polynomials over the rationals, exactly: the arithmetic that ``exact`` reads expressions into.

Indeterminates are letters, π, e, i (i² = -1), square roots of square-free integers ("√6"), of one letter ("√x", whose
square is x) and of a sum ("√[…]", which stands for itself). Every step is bounded (``Unread``) and counted
(``work``).

Roots are read where a root of a product is the product of the roots: for letters under it that are not negative. So
√(1/n) is 1/√n, and √(x/y) is √x/√y: they agree wherever both are defined. √(x²), which is not x, is not read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TypeAlias

from .work import spend

_MAX_TERMS = 60
_MAX_EXPONENT = 64
_MAX_BITS = 20_000
"""Largest numerator or denominator: 2006! and 2^10000 fit."""
_MAX_RADICAND = 10**9

Monomial: TypeAlias = tuple[tuple[str, int], ...]
"""Letters with their exponents, sorted."""
Polynomial: TypeAlias = dict[Monomial, Fraction]


class Unread(Exception):
    """The text is not an expression of this small kind, or too large for it."""


@dataclass(frozen=True, slots=True)
class Exact:
    """An expression read exactly: numerator over denominator."""

    top: Polynomial
    bottom: Polynomial
    decimals: bool
    """Whether a decimal point was written, so that the value may be rounded."""

    @property
    def rational(self) -> Fraction | None:
        """The value if it is a rational number, else None."""
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
            if name.removeprefix("√") not in ("π", "e", "i") and not name[1:].isdigit()
        )

    @property
    def opaque(self) -> bool:
        """Whether a root of a sum is in it, so that what looks different may still be the same."""
        polynomials = (self.top, self.bottom)
        return any(name[:2] == "√[" for terms in polynomials for monomial in terms for name, _ in monomial)

    def value(self) -> complex | None:
        """The value as a floating-point number; None if letters or sizes forbid it."""
        if self.letters:
            return None
        try:
            return _evaluate(self.top) / _evaluate(self.bottom)
        except (OverflowError, ZeroDivisionError):
            return None


def same(left: Exact, right: Exact) -> bool | None:
    """Whether the two are the same function of their letters; None if that grows too large to say."""
    try:
        found = _times(left.top, right.bottom) == _times(right.top, left.bottom)
        return None if not found and (left.opaque or right.opaque) else found
    except Unread:
        return None


def proportional(left: Exact, right: Exact) -> bool:
    """Whether the numerators are the same but for a constant other than 0: then they vanish together."""
    if left.top.keys() != right.top.keys() or not left.top:
        return False
    ratios = {left.top[monomial] / right.top[monomial] for monomial in left.top}
    return len(ratios) == 1


def difference(left: Exact, right: Exact) -> Exact | None:
    """``left - right``; None if it grows too large."""
    try:
        found = add(left, negated(right))
    except Unread:
        return None
    return Exact(found.top, found.bottom, left.decimals or right.decimals)


_ONE: Mapping[Monomial, Fraction] = {(): Fraction(1)}


def of_number(value: Fraction) -> Exact:
    if _bits(value) > _MAX_BITS:
        raise Unread
    return Exact({(): value} if value else {}, dict(_ONE), False)


def of_letter(name: str) -> Exact:
    return Exact({((name, 1),): Fraction(1)}, dict(_ONE), False)


def _constant(polynomial: Polynomial) -> Fraction | None:
    return polynomial.get((), Fraction(0)) if polynomial.keys() <= {()} else None


def _plus(left: Polynomial, right: Polynomial) -> Polynomial:
    total = dict(left)
    for monomial, coefficient in right.items():
        total[monomial] = total.get(monomial, Fraction(0)) + coefficient
    return {monomial: coefficient for monomial, coefficient in total.items() if coefficient}


def _times(left: Polynomial, right: Polynomial) -> Polynomial:
    if right == _ONE:
        return left
    if left == _ONE:
        return right
    if len(left) * len(right) > _MAX_TERMS * 10:
        raise Unread
    most_bits = max((_bits(value) for value in (*left.values(), *right.values())), default=0)
    spend(1 + len(left) * len(right) * (2 + most_bits // 500))
    total: Polynomial = {}
    for a, coefficient in left.items():
        for b, other in right.items():
            monomial, factor = _join(a, b)
            total[monomial] = total.get(monomial, Fraction(0)) + coefficient * other * factor
    total = {monomial: coefficient for monomial, coefficient in total.items() if coefficient}
    most = 2 * _MAX_BITS if len(total) == 1 else _MAX_BITS // 20
    if len(total) > _MAX_TERMS or any(_bits(value) > most for value in total.values()):
        raise Unread
    return total


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


@lru_cache(maxsize=4096)
def _join(a: Monomial, b: Monomial) -> tuple[Monomial, int]:
    """The product of two monomials, and the integer that comes out of it: √2·√6 = 2·√3, i·i = -1."""
    exponents: dict[str, int] = {}
    radicand, factor = 1, 1
    for name, exponent in (*a, *b):
        if name[0] == "√" and name[1:].isdigit():
            root = int(name[1:])
            common = math.gcd(radicand, root)
            factor *= common
            radicand = radicand // common * (root // common)
        else:
            exponents[name] = exponents.get(name, 0) + exponent
    for name in [name for name, exponent in exponents.items() if _is_letter_root(name) and exponent > 1]:
        exponents[name[1:]] = exponents.get(name[1:], 0) + exponents[name] // 2
        exponents[name] %= 2
    if exponents.get("i", 0) > 1:
        factor *= -1 if exponents["i"] % 4 in (2, 3) else 1
        exponents["i"] %= 2
    if radicand > 1:
        exponents[f"√{radicand}"] = 1
    if any(exponent > _MAX_EXPONENT for exponent in exponents.values()):
        raise Unread
    return tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent)), factor


def _is_letter_root(name: str) -> bool:
    return name[0] == "√" and name[1] != "[" and not name[1:].isdigit()


def add(left: Exact, right: Exact) -> Exact:
    if left.bottom == right.bottom:
        return Exact(_plus(left.top, right.top), left.bottom, False)
    top = _plus(_times(left.top, right.bottom), _times(right.top, left.bottom))
    return Exact(top, _times(left.bottom, right.bottom), False)


def negated(value: Exact) -> Exact:
    return Exact({monomial: -coefficient for monomial, coefficient in value.top.items()}, value.bottom, False)


def multiply(left: Exact, right: Exact) -> Exact:
    return Exact(_times(left.top, right.top), _times(left.bottom, right.bottom), False)


def divide(left: Exact, right: Exact) -> Exact:
    if not right.top:
        raise Unread
    divisor = right.rational
    if divisor is not None:
        return Exact({monomial: value / divisor for monomial, value in left.top.items()}, left.bottom, False)
    return Exact(_times(left.top, right.bottom), _times(left.bottom, right.top), False)


def power(base: Exact, exponent: int) -> Exact:
    number = base.rational
    if number is not None:
        if not number and exponent <= 0:
            raise Unread
        if _bits(number) * abs(exponent) > _MAX_BITS and abs(number) != 1:
            raise Unread
        return of_number(number**exponent if abs(number) != 1 else number ** (exponent % 2))
    if abs(exponent) > _MAX_EXPONENT:
        raise Unread
    if exponent < 0:
        base, exponent = Exact(base.bottom, base.top, False), -exponent
    total = Exact(dict(_ONE), dict(_ONE), False)
    for _ in range(exponent):
        total = multiply(total, base)
    return total


def root(radicand: Exact) -> Exact:
    """The square root, if it is that of a rational number that is not negative, or a quotient of roots of sums."""
    value = radicand.rational
    if value is not None:
        return _rational_root(value)
    return divide(_polynomial_root(radicand.top), _polynomial_root(radicand.bottom))


def _polynomial_root(polynomial: Polynomial) -> Exact:
    """The root of one term goes letter by letter. That of a sum is the root of its content times a root that stands for
    the rest."""
    if len(polynomial) == 1:
        ((monomial, coefficient),) = polynomial.items()
        found = _rational_root(coefficient)
        for name, exponent in monomial:
            if name[0] == "√" or name == "i" or (exponent % 2 == 0 and name not in ("π", "e")):
                raise Unread  # √(x²) is |x|
            whole: Polynomial = {((name, exponent // 2),): Fraction(1)} if exponent > 1 else dict(_ONE)
            half: Polynomial = {((f"√{name}", 1),): Fraction(1)} if exponent % 2 else dict(_ONE)
            found = multiply(found, Exact(_times(whole, half), dict(_ONE), False))
        return found
    values = list(polynomial.values())
    content = Fraction(math.gcd(*(v.numerator for v in values)), math.lcm(*(v.denominator for v in values)))
    if _bits(content) > 64 or any(name[0] == "√" for monomial in polynomial for name, _ in monomial):
        raise Unread
    terms = sorted(
        f"{value / content}" + "".join(f"·{name}^{exponent}" for name, exponent in monomial)
        for monomial, value in polynomial.items()
    )
    return multiply(_rational_root(content), of_letter(f"√[{' + '.join(terms)}]"))


def _rational_root(value: Fraction) -> Exact:
    if value < 0 or value.numerator * value.denominator > _MAX_RADICAND:
        raise Unread
    if not value:
        return of_number(Fraction(0))
    spend(100)
    inside, outside = value.numerator * value.denominator, 1  # √(p/q) = √(pq)/q
    divisor = 2
    while divisor * divisor <= inside and divisor <= 1000:
        while inside % (divisor * divisor) == 0:
            inside //= divisor * divisor
            outside *= divisor
        divisor += 1
    found = math.isqrt(inside)
    if found * found == inside:
        inside, outside = 1, outside * found
    elif inside > 10**6:
        raise Unread  # it may still have a square factor
    factor = Fraction(outside, value.denominator)
    return of_number(factor) if inside == 1 else Exact({((f"√{inside}", 1),): factor}, dict(_ONE), False)


_CONSTANTS = {"π": math.pi, "e": math.e, "i": 1j, "√π": math.sqrt(math.pi), "√e": math.sqrt(math.e)}


def _evaluate(polynomial: Polynomial) -> complex:
    total: complex = 0.0
    for monomial, coefficient in polynomial.items():
        term: complex = float(coefficient)
        for name, exponent in monomial:
            base = _CONSTANTS.get(name)
            term *= (math.sqrt(int(name[1:])) if base is None else base) ** exponent
        total += term
    return total
