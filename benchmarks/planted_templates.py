"""Problems by template with computed golds, which ``third_planted_set.py`` plants."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

_NAMES = "Amara Bilal Celine Dmitri Esther Farid Gwen Hugo Ines Joao Katya Liam Mei Noor Oskar Paola"
_GOODS = "apples marbles stickers pencils coins shells tickets buttons cards plums kites candles ropes lanterns"
_SITES = "market harbour school library museum station theatre bakery orchard workshop"
NAMES, GOODS, SITES = _NAMES.split(), _GOODS.split(), _SITES.split()


@dataclass(frozen=True)
class Problem:
    """One problem: facts in any order, then a question."""

    facts: list[str]
    question: str
    gold: str
    turned: list[tuple[str, str]] = field(default_factory=list)
    """(question with one word turned, its gold)."""
    others: list[tuple[str, str]] = field(default_factory=list)
    """(another question, its gold)."""

    @property
    def text(self) -> str:
        return " ".join([*self.facts, self.question])


def _fraction(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def shop(r: random.Random) -> Problem:
    (one, two), (good, site), n = (
        r.sample(NAMES, 2),
        (r.choice(GOODS), r.choice(SITES)),
        [r.randrange(11, 90) for _ in range(4)],
    )
    facts = [
        f"{one} bought {n[0]} {good} at the {site} on Monday.",
        f"{two} owns {n[1]} {good} and keeps them in a wooden box.",
        f"Every one of the {good} costs {n[2]} cents.",
        f"The {site} had {n[3]} customers on that day.",
    ]
    return Problem(
        facts,
        f"What is the sum of the numbers of {good} that {one} and {two} have?",
        str(n[0] + n[1]),
        [
            (f"What is the product of the numbers of {good} that {one} and {two} have?", str(n[0] * n[1])),
            (f"What is the difference of the numbers of {good} that {one} and {two} have?", str(abs(n[0] - n[1]))),
        ],
        [(f"How many cents did {one} pay for all the {good} on Monday?", str(n[0] * n[2]))],
    )


def divisors(r: random.Random) -> Problem:
    low, high, d, e = r.randrange(10, 60), r.randrange(200, 900), r.randrange(3, 12), r.randrange(13, 29)
    members = [k for k in range(low, high) if k % d == 0 and k % e]
    facts = [
        f"Let $S$ be the set of all integers $k$ with ${low} \\leq k < {high}$.",
        f"An integer is called bright if it is divisible by ${d}$ and it is not divisible by ${e}$.",
    ]
    return Problem(
        facts,
        "What is the largest bright integer in $S$?",
        str(max(members)),
        [("What is the smallest bright integer in $S$?", str(min(members)))],
        [("How many bright integers are there in $S$?", str(len(members)))],
    )


def triangle(r: random.Random) -> Problem:
    k, (a, b, c) = r.randrange(2, 40), r.choice(((3, 4, 5), (5, 12, 13), (8, 15, 17), (7, 24, 25), (20, 21, 29)))
    x, y, z = r.choice(("ABC", "PQR", "KLM", "XYZ", "DEF"))
    facts = [
        f"In triangle ${x}{y}{z}$ the angle at ${z}$ is a right angle.",
        f"The side ${x}{z}$ has length {a * k} and the side ${y}{z}$ has length {b * k}.",
        f"A point $T$ is the foot of the altitude from ${z}$ to ${x}{y}$.",
    ]
    return Problem(
        facts,
        f"Find the area of triangle ${x}{y}{z}$.",
        str(a * b * k * k // 2),
        [(f"Find the perimeter of triangle ${x}{y}{z}$.", str((a + b + c) * k))],
        [(f"Find the length of the segment ${z}T$.", _fraction(Fraction(a * b * k, c)))],
    )


def quadratic(r: random.Random) -> Problem:
    p, q, m = r.randrange(2, 40), r.randrange(41, 90), r.randrange(2, 9)
    facts = [
        f"The polynomial $P(x) = x^2 - {p + q}x + {p * q}$ has real coefficients.",
        "We call its roots $u$ and $v$.",
        f"The number $w$ satisfies ${m}w = {m * q}$.",
    ]
    return Problem(
        facts,
        "Determine the maximum of $u$ and $v$.",
        str(q),
        [("Determine the minimum of $u$ and $v$.", str(p))],
        [("Determine the value of $u^2 + v^2 + w$.", str(p * p + q * q + q))],
    )


def urn(r: random.Random) -> Problem:
    red, blue, green = (r.randrange(5, 40) for _ in range(3))
    total = red + blue + green
    first, same = Fraction(red * (red - 1), total * (total - 1)), Fraction(red * red, total * total)
    facts = [
        f"An urn contains {red} red balls.",
        f"It also contains {blue} blue balls and {green} green balls, all of one size.",
        f"{r.choice(NAMES)} cannot see the colours of the balls.",
    ]
    return Problem(
        facts,
        "Two balls are drawn without replacement; what is the probability that both are red?",
        _fraction(first),
        [("Two balls are drawn with replacement; what is the probability that both are red?", _fraction(same))],
        [("One ball is taken out; what is the chance that its colour is green?", _fraction(Fraction(green, total)))],
    )


def function(r: random.Random) -> Problem:
    a, b, c, at = r.randrange(2, 30), r.randrange(2, 30), r.randrange(2, 99), r.randrange(3, 30)
    facts = [
        f"A function $f$ is defined by $f(n + 1) = f(n) + {a}n + {b}$ for every integer $n \\ge 0$.",
        f"Its first value is $f(0) = {c}$.",
        "All values of the function are integers.",
    ]
    value = c + sum(a * n + b for n in range(at))
    return Problem(
        facts,
        f"Find $f({at})$.",
        str(value),
        [],
        [(f"Find $f({at + k})$.", str(c + sum(a * n + b for n in range(at + k)))) for k in (1, 2)],
    )


def trains(r: random.Random) -> Problem:
    v, w, d = r.randrange(40, 90), r.randrange(91, 160), r.randrange(200, 900)
    one, two = r.sample(SITES, 2)
    facts = [
        f"The distance between the {one} and the {two} is {d} kilometers.",
        f"A slow train runs at {v} kilometers per hour.",
        f"A fast train runs at {w} kilometers per hour.",
        f"Neither of the trains stops between the {one} and the {two}.",
    ]
    return Problem(
        facts,
        "By how many hours is the time of the slow train longer?",
        _fraction(Fraction(d, v) - Fraction(d, w)),
        [],
        [
            (
                "They start at both ends towards each other: after how many hours do they meet?",
                _fraction(Fraction(d, v + w)),
            ),
            ("How many kilometers lie between the two trains one hour after a common start?", str(w - v)),
        ],
    )


def dice(r: random.Random) -> Problem:
    sides, limit = r.choice((8, 10, 12, 14, 16, 18, 20)), r.randrange(5, 14)
    rolls = [(i, j) for i in range(1, sides + 1) for j in range(1, sides + 1)]
    share = lambda good: _fraction(Fraction(sum(good(i + j) for i, j in rolls), len(rolls)))  # noqa: E731
    name = r.choice(NAMES)
    facts = [
        f"{name} rolls two fair dice, each of which has {sides} faces with the numbers from 1 to {sides}.",
        f"{name} then adds both numbers and writes the total on a sheet of paper.",
    ]
    return Problem(
        facts,
        f"What is the probability that the total is at least {limit}?",
        share(lambda total: total >= limit),
        [(f"What is the probability that the total is at most {limit}?", share(lambda total: total <= limit))],
        [("What is the expected value of the total?", str(sides + 1))],
    )


def sequence(r: random.Random) -> Problem:
    first, step, count = r.randrange(2, 60), r.randrange(2, 30), r.randrange(12, 60)
    terms = [first + step * k for k in range(count)]
    facts = [
        f"An arithmetic sequence has ${count}$ terms.",
        f"Its first term is ${first}$ and its common difference is ${step}$.",
    ]
    return Problem(
        facts,
        "Compute the sum of all its terms that are even.",
        str(sum(t for t in terms if t % 2 == 0)),
        [("Compute the sum of all its terms that are odd.", str(sum(t for t in terms if t % 2)))],
        [("Compute its last term and then subtract the third one.", str(terms[-1] - terms[2]))],
    )


def circle(r: random.Random) -> Problem:
    x, y, radius = r.randrange(-30, 31), r.randrange(-30, 31), r.randrange(2, 60)
    facts = [
        f"In the plane a circle has its centre at the point $({x}, {y})$ and the radius ${radius}$.",
        "The line $\\ell$ touches the circle at its highest point.",
        "The line $m$ touches the circle at its rightmost point.",
    ]
    return Problem(
        facts,
        "What is the circumference of the circle?",
        f"{2 * radius}\\pi",
        [("What is the area of the circle?", f"{radius * radius}\\pi")],
        [("At which point do the lines $\\ell$ and $m$ meet?", f"({x + radius}, {y + radius})")],
    )


def committee(r: random.Random) -> Problem:
    men, women, size = r.randrange(5, 14), r.randrange(5, 14), r.randrange(3, 6)
    exactly = sum(math.comb(men, k) * math.comb(women, size - k) for k in range(2, size + 1))
    fewer = sum(math.comb(men, k) * math.comb(women, size - k) for k in range(2))
    facts = [
        f"A club has {men} men and {women} women as members.",
        f"Each year the club elects a committee of {size} of its members.",
        "All members may stand for the committee, and the order in which they are chosen does not matter.",
    ]
    return Problem(
        facts,
        "In how many ways can the committee have more than one man?",
        str(exactly),
        [("In how many ways can the committee have fewer than two men?", str(fewer))],
        [("How many committees are made up of women only?", str(math.comb(women, size)))],
    )


def base(r: random.Random) -> Problem:
    n, m, p = r.randrange(100, 900), r.randrange(100, 900), r.choice((7, 11, 13, 17, 19, 23))
    facts = [
        f"Let $A = {n}$ and $B = {m}$ be given.",
        f"Let $R$ be the remainder of $A \\cdot B$ after division by ${p}$.",
    ]
    return Problem(
        facts,
        "Find the greatest common divisor of $A$ and $B$.",
        str(math.gcd(n, m)),
        [("Find the least common multiple of $A$ and $B$.", str(math.lcm(n, m)))],
        [("Find the value of $R + A$.", str(n * m % p + n))],
    )


FAMILIES: tuple[Callable[[random.Random], Problem], ...] = (
    shop,
    divisors,
    triangle,
    quadratic,
    urn,
    function,
    trains,
    dice,
    sequence,
    circle,
    committee,
    base,
)
