"""Exact arithmetic on what most answers are: integers, decimals, fractions, roots, π and polynomials in a few letters.

An expression is read into a quotient of two polynomials over the rationals, whose indeterminates are letters, π, e, i
(i² = -1) and square roots of square-free integers. That form is exact, so two expressions that can both be read are
compared for good and in microseconds, where a computer algebra system takes milliseconds. What is not plainly such an
expression is not read at all (None), and somebody else decides. The arithmetic is ``polynomials``.
"""

import math
import re
from fractions import Fraction
from functools import lru_cache

from .polynomials import Exact, Unread, add, divide, multiply, negated, of_letter, of_number, power, root
from .work import spend

MAX_CHARS = 400
"""Longer expressions are left to others."""
_MAX_DEPTH = 25

_TOKEN = re.compile(
    r"\s*+(?:(?P<number>\d++\.?\d*+|\.\d++)|(?P<command>\\(?:d|t|c)?frac|\\[a-zA-Z]+)|(?P<sign>[-+*/^!(){}\[\]])"
    r"|(?P<letter>[a-zA-Z](?:_(?:[a-zA-Z0-9]|\{[a-zA-Z0-9]++\}))?))"
)
_GREEK = frozenset(
    f"\\{name}" for name in ("alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "phi", "omega", "sigma", "rho")
)
_TIMES = frozenset([r"\cdot", r"\times", "*"])
_CLOSING = {"(": ")", "{": "}"}
_FRACTIONS = frozenset([r"\frac", r"\dfrac", r"\tfrac", r"\cfrac"])


@lru_cache(maxsize=2048)
def read(text: str) -> Exact | None:
    """``text`` (LaTeX or plain) as an exact expression, or None where it is not surely one."""
    if len(text) > MAX_CHARS:
        return None
    spend(10 + 3 * len(text))
    try:
        return _Reader(text).whole()
    except (Unread, ZeroDivisionError):
        return None


class _Reader:
    """A recursive-descent reader of one text. It refuses anything ambiguous rather than guess."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise Unread
            kind = str(token.lastgroup)
            self.tokens.append((kind, token[kind]))
            at = token.end()
        self.at = self.depth = 0
        self.decimals = False

    def whole(self) -> Exact:
        found = self.sum()
        if self.at < len(self.tokens):
            raise Unread
        return Exact(found.top, found.bottom, self.decimals)

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, *wanted: str) -> bool:
        if self.peek()[1] in wanted and self.peek()[0] != "end":
            self.at += 1
            return True
        return False

    def sum(self) -> Exact:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise Unread
        negative = self.sign()
        total = self.product()
        total = negated(total) if negative else total
        while self.peek()[1] in ("+", "-"):
            negative = self.sign()
            if self.peek()[1] in ("+", "-"):  # 14 + -1i
                negative ^= self.sign()
            term = self.product()
            total = add(total, negated(term) if negative else term)
        self.depth -= 1
        return total

    def sign(self) -> bool:
        """Whether a sign, if there is one, is a minus. Two in a row are read after a term only: 14 + -1, not --5."""
        if self.take("-"):
            return True
        self.take("+")
        return False

    def product(self) -> Exact:
        total = self.factor()
        divided = False
        while True:
            kind, text = self.peek()
            if text in _TIMES:
                if divided:
                    raise Unread  # a/b*c
                self.at += 1
                negative = self.sign()  # 2 · -3
                factor = self.factor()
                total = multiply(total, negated(factor) if negative else factor)
            elif text in ("/", r"\div"):
                if divided:
                    raise Unread
                self.at += 1
                total, divided = divide(total, self.factor()), True
            elif kind in ("number", "letter", "command") or text in ("(", "{"):
                before, last = self.tokens[self.at - 1], self.tokens[self.at]
                if divided or last[0] == "number":
                    raise Unread  # 1/2x, x 2
                if before[0] == "number" and last[1] in _FRACTIONS:
                    total = self.mixed(total)
                    continue
                if before[0] == "letter" and text == "(" and before[1] != "i":
                    if before[1] in "fghFGHPQRTSW":
                        raise Unread  # a function's argument
                elif before[0] == "letter" and last[0] == "letter" and self.word():
                    raise Unread
                total = multiply(total, self.factor())
            else:
                return total

    def mixed(self, whole: Exact) -> Exact:
        """2\\frac{1}{3}: an integer before a proper fraction of integers is a mixed number."""
        number = whole.rational
        if number is None or number.denominator != 1 or (self.at >= 2 and self.tokens[self.at - 2][1] not in "+-({"):
            raise Unread
        part = self.factor().rational
        if part is None or not 0 < part < 1 or self.tokens[self.at - 1][1] not in "}0123456789":
            raise Unread
        return of_number(number + part)

    def word(self) -> bool:
        """Three letters in a row are a word, and a word is no product."""
        start = self.at
        while start > 0 and self.tokens[start - 1][0] == "letter":
            start -= 1
        end = self.at
        while end < len(self.tokens) and self.tokens[end][0] == "letter":
            end += 1
        return end - start > 2

    def factor(self) -> Exact:
        base = self.atom()
        if self.take("!"):
            number = base.rational
            if number is None or number.denominator != 1 or not 0 <= number <= 2100:
                raise Unread
            base = of_number(Fraction(math.factorial(int(number))))
        elif self.take("^"):
            base = power(base, self.exponent())
        if self.peek()[1] in ("^", "!"):
            raise Unread  # 3!!, 2^3^4
        return base

    def exponent(self) -> int:
        if self.take("{"):
            found = self.group("}")
        elif self.peek()[0] == "number":
            found = of_number(Fraction(self.peek()[1]))
            self.at += 1
        else:
            raise Unread
        number = found.rational
        if number is None or number.denominator != 1:
            raise Unread
        return int(number)

    def group(self, closing: str) -> Exact:
        """What stands inside a bracket that has been taken."""
        found = self.sum()
        if not self.take(closing):
            raise Unread
        return found

    def atom(self) -> Exact:
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            self.decimals = self.decimals or "." in text
            return of_number(Fraction(text.removesuffix(".")))
        if kind == "letter":
            if text in ("E", "I"):
                raise Unread  # e or a letter, i or a letter
            return of_letter(text.replace("{", "").replace("}", ""))
        if text in _CLOSING:
            return self.group(_CLOSING[text])
        if text == r"\pi":
            return of_letter("π")
        if text in _GREEK:
            return of_letter(text)
        if text in _FRACTIONS:
            top = self.argument()
            return divide(top, self.argument())
        if text == r"\sqrt":
            return root(self.argument())
        if text == r"\left":
            return self.atom()
        raise Unread

    def argument(self) -> Exact:
        """What \\frac and \\sqrt take: a group, or one digit or letter."""
        if self.take("{"):
            return self.group("}")
        kind, text = self.peek()
        if kind == "number" and text.isdigit():  # \frac12 takes one digit, \frac123 is nobody's
            self.tokens[self.at : self.at + 1] = [("number", digit) for digit in text]
            if len(text) > 2:
                raise Unread
            self.at += 1
            return of_number(Fraction(text[0]))
        if kind == "letter":
            return self.atom()
        raise Unread
