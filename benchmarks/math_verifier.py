"""How fast mathematics is graded, against bare Math-Verify on the same core, and whether the verdicts are the same.

::

    python benchmarks/math_verifier.py [--rounds 9] [--items 400] [--seed 0]

The mix is shaped like the answers to competition problems: 55 % integers, 20 % fractions, 5 % decimals, 20 %
expressions (roots, multiples of π, powers, polynomials, and one in eight of them what only Math-Verify reads: cube
roots, logarithms, binomials). A third of the answers are right, some of them in another form; no pair comes twice.

- **bare**: ``verify(parse(gold), parse(answer))``, both boxed, with its own clocks, in this process's main thread.
- **ours**: ``GraderPool(1)``, this process and its one child on the same core.

Both grade the same items in every round, in turns; the ratio is the median over the rounds. The rules differ
from Math-Verify by design (docs/reference/math-rules.md), not on this mix. Must hold: a ratio of at least 3, the same
verdicts.
"""

import os
import random
import statistics
from collections.abc import Callable
from typing import Any

from leeway_rl.benchmarks.measure import Table, in_turns, load_of_this_machine, parser_of, timed
from leeway_rl.common.types import Verdict, VerdictKind
from leeway_rl.verifier.pool import GradeItem, GraderPool

LEAST_RATIO = 3.0


def integer(dice: random.Random) -> tuple[str, str]:
    """(a gold, the same in another form)."""
    value = dice.choice([dice.randint(0, 99), dice.randint(-999, 999), dice.randint(1000, 999_999)])
    return str(value), dice.choice([str(value), f"{value:,}", f"{value}.0", rf"{value - 1} + 1"])


def fraction(dice: random.Random) -> tuple[str, str]:
    """A fraction, reduced or not."""
    top, bottom, by = dice.randint(1, 99), dice.randint(2, 99), dice.randint(2, 9)
    forms = [rf"\dfrac{{{top}}}{{{bottom}}}", f"{top}/{bottom}", rf"\frac{{{top * by}}}{{{bottom * by}}}"]
    return rf"\frac{{{top}}}{{{bottom}}}", dice.choice(forms)


def decimal(dice: random.Random) -> tuple[str, str]:
    """A decimal, and the fraction that it is."""
    value = dice.randint(1, 99_999)
    return f"{value / 1000}", rf"\frac{{{value}}}{{1000}}"


def expression(dice: random.Random) -> tuple[str, str]:
    """An expression that is no number, and the same in another form."""
    a, b, c = dice.randint(2, 60), dice.randint(2, 30), dice.randint(2, 12)
    n = dice.choice([2, 3, 5, 6, 7, 10, 11])
    forms = [
        (rf"{a}\sqrt{{{n}}}", rf"\sqrt{{{a * a * n}}}"),
        (rf"\frac{{{a}+{b}\sqrt{{{n}}}}}{{{c}}}", rf"\frac{{{b}\sqrt{{{n}}}+{a}}}{{{c}}}"),
        (rf"{a}\pi", rf"\pi \cdot {a}"),
        (rf"\frac{{{a}\pi}}{{{b}}}", rf"\frac{{{a}}}{{{b}}}\pi"),
        (rf"{c}^{{{b}}}", rf"{c} \cdot {c}^{{{b - 1}}}"),
        (rf"{a}x^2+{b}x-{c}", rf"x({a}x+{b})-{c}"),
        (rf"(x-{a})(x+{b})", rf"x^2+{b - a}x-{a * b}" if b > a else rf"x^2-{a - b}x-{a * b}"),
        dice.choice(
            [
                (rf"{a}\sqrt[3]{{{n}}}", rf"\sqrt[3]{{{n}}} \cdot {a}"),
                (rf"\log_2 {a}", rf"\frac{{\ln {a}}}{{\ln 2}}"),
                (rf"\binom{{{b + 3}}}{{2}}", str((b + 3) * (b + 2) // 2)),
            ]
        ),
    ]
    return dice.choice(forms)


SHARES: list[tuple[Callable[[random.Random], tuple[str, str]], int]] = [
    (integer, 55),
    (fraction, 20),
    (decimal, 5),
    (expression, 20),
]


def mix(dice: random.Random, size: int) -> list[tuple[str, str]]:
    """``size`` different pairs (gold, answer)."""
    makers, weights = zip(*SHARES, strict=True)
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < size:
        (make,) = dice.choices(makers, weights)
        gold, same = make(dice)
        answer = same if dice.random() < 1 / 3 else make(dice)[dice.randrange(2)]
        pairs[gold, answer] = None
    return list(pairs)


def _item(gold: str, answer: str) -> GradeItem:
    return GradeItem(ability="math", response=rf"So it is $\boxed{{{answer}}}$.", golds=(gold,), finished=True)


def _differ(pairs: list[tuple[str, str]], bare: list[bool], verdicts: list[Verdict]) -> int:
    """Print the pairs on which the two differ, and count them."""
    differ = 0
    for (gold, answer), theirs, verdict in zip(pairs, bare, verdicts, strict=True):
        if theirs != (verdict.kind is VerdictKind.CORRECT):
            differ += 1
            print(f"gold {gold}, answer {answer}: bare {theirs}, ours {verdict.kind}: {verdict.reason}")
    return differ


def main() -> None:
    """Measure, compare, print."""
    parser = parser_of(__doc__, rounds=9, seed=0)
    parser.add_argument("--items", type=int, default=400, help="a round")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the child inherits it
    from math_verify import parse, verify

    dice, ratios, different = random.Random(given.seed), [], 0
    rounds = [mix(dice, given.items) for _ in range(given.rounds)]

    def bare(number: int) -> tuple[float, list[Any]]:
        boxed = [(rf"\boxed{{{gold}}}", rf"\boxed{{{answer}}}") for gold, answer in rounds[number]]
        return timed(lambda: [verify(parse(gold), parse(answer)) for gold, answer in boxed])

    def ours(number: int) -> tuple[float, list[Any]]:
        return timed(pool.grade, [_item(gold, answer) for gold, answer in rounds[number]])

    print(load_of_this_machine())
    with GraderPool(1) as pool:
        pool.grade([_item("2", r"\sqrt[3]{8}")])  # warm
        verify(parse(r"\boxed{\sqrt[3]{8}}"), parse(r"\boxed{2}"))
        table = Table("bare, items/s:,.0f", "ours, items/s:,.0f", "ratio:6.1f", "right:d")
        for pairs, found in zip(rounds, in_turns(given.rounds, {"bare": bare, "ours": ours}), strict=True):
            (bare_s, theirs), (ours_s, verdicts) = found["bare"], found["ours"]
            ratios.append(bare_s / ours_s)
            different += _differ(pairs, theirs, verdicts)
            right = sum(verdict.kind is VerdictKind.CORRECT for verdict in verdicts)
            table.line(len(pairs) / bare_s, len(pairs) / ours_s, ratios[-1], right)
    total = given.rounds * given.items
    print(f"ratio {statistics.median(ratios):.1f} (at least {LEAST_RATIO:g}); {different} of {total} verdicts differ")


if __name__ == "__main__":
    main()
