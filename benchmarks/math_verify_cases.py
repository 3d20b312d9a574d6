"""Math-Verify's own public test cases, graded as responses with a box.

    git clone https://github.com/huggingface/Math-Verify
    python benchmarks/math_verify_cases.py Math-Verify

Nothing of that checkout is copied here. A case is (gold, prediction, expected). A prediction that boxes something is a
response as it stands. Of any other, we put a part into a box: its only formula, or the answer that Math-Verify finds in
its prose (``--whole``: all of it, prose and dollar signs included). To us a relation and the interval that it describes
are the same (Math-Verify's ``allow_set_relation_comp=True``). Cases that ask for another value of an option are counted
apart, because a response cannot ask for it.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from leeway_rl.benchmarks.measure import parser_of

MODULES = ("test_all", "test_boxed", "test_numina_cases", "test_open_thoughts", "test_strict", "test_yujianll")
DEFAULTS = {"precision": 6, "strict": True, "allow_set_relation_comp": True}
_FORMULA = re.compile(r"\$\$((?:[^$\\]|\\.)+)\$\$|\$((?:[^$\\\n]|\\.)+)\$|\\\[(.+?)\\\]|\\\(([^\n]+?)\\\)", re.DOTALL)


class Case(NamedTuple):
    """One of Math-Verify's cases."""

    where: str
    """Module and number within it."""
    gold: str
    prediction: str
    correct: bool
    """What Math-Verify's test expects."""
    formulas_only: bool
    """Whether the test lets Math-Verify look for formulas alone."""
    options: dict[str, Any]
    """The options that it sets to other values than ours."""


def cases(checkout: Path) -> Iterator[Case]:
    """Every parametrized case of the checkout's test modules that compares a gold with a prediction."""
    sys.path.insert(0, str(checkout))
    for name in MODULES:
        module = importlib.import_module(f"tests.{name}")
        number = 0
        for test in vars(module).values():
            for mark in getattr(test, "pytestmark", []):
                names, rows = mark.args
                formulas_only = 'match_types=["latex"]' in inspect.getsource(test)
                for row in rows:
                    fields = dict(zip(re.split(r"\s*,\s*", names), row, strict=True))
                    number += 1
                    options = {key: value for key, value in fields.items() if DEFAULTS.get(key, value) != value}
                    expected = fields["expected"] if "expected" in fields else fields["result"]
                    yield Case(
                        f"{name}:{number}", fields["gold"], fields["pred"], bool(expected), formulas_only, options
                    )


def response(case: Case, *, whole: bool) -> str:
    """The prediction as a response with a box; without one where Math-Verify finds no answer to put into it."""
    if "\\boxed" in case.prediction:
        return case.prediction
    formulas = list(_FORMULA.finditer(case.prediction))
    if whole or (len(case.prediction.split()) < 3 and not formulas):
        return rf"\boxed{{{case.prediction}}}"
    if len(formulas) == 1 and not re.search(r"\d|%|percent|pct", _FORMULA.sub("", case.prediction)):
        return rf"\boxed{{{next(filter(None, formulas[0].groups()))}}}"
    answer = extracted(case)
    return case.prediction if answer is None else rf"\boxed{{{answer}}}"


def extracted(case: Case) -> str | None:
    """What Math-Verify itself takes for the answer in a prediction that boxes nothing."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    formulas = LatexExtractionConfig(boxed_match_priority=0)
    found = parse(case.prediction, [formulas] if case.formulas_only else [formulas, ExprExtractionConfig()])
    return found[-1] if found and isinstance(found[-1], str) else None


def plain(gold: str) -> str:
    """A gold without the dollar signs around it, as data sets have them."""
    return gold[1:-1] if gold.count("$") == 2 and gold[0] == gold[-1] == "$" else gold


def main() -> None:
    """Grade every case and print the ones that come out otherwise."""
    parser = parser_of(__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of Math-Verify")
    parser.add_argument("--whole", action="store_true", help="box the whole prediction, prose and all")
    parser.add_argument("--dollars", action="store_true", help="leave golds in their dollar signs")
    given = parser.parse_args()
    from leeway_rl.verifier.pool import GradeItem, GraderPool

    found = list(cases(given.checkout))
    items = [
        GradeItem(
            ability="math",
            response=response(case, whole=given.whole),
            golds=(case.gold if given.dollars else plain(case.gold),),
            finished=True,
        )
        for case in found
    ]
    with GraderPool(1, timeout_s=30) as pool:
        verdicts = pool.grade(items)
    asked = right = 0
    for case, item, verdict in zip(found, items, verdicts, strict=True):
        good = (verdict.kind.value == "correct") == case.correct
        if not case.options:
            asked, right = asked + 1, right + good
        if not good:
            expected = "correct" if case.correct else "wrong"
            print(f"{case.where} {case.options or ''} expected {expected}, {verdict.kind}: {verdict.reason}")
            print(f"    gold {item.golds[0][-160:]!r}\n    response {item.response[-160:]!r}")
    print(f"{right} of {asked} as expected ({right / asked:.1%}); {len(found) - asked} more set an option")


if __name__ == "__main__":
    main()
