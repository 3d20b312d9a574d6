"""What a verifier cannot judge leaves with its reason, and what it can stays: the tables of filter_cases.py."""

import json

import pyarrow as pa
import pytest
from leeway_rl.data import recipe
from leeway_rl.data.dataset import WORKING, Dataset, DatasetWriter
from leeway_rl.data.sources import FORMATS, working_row

from tests.data.filter_cases import (
    HARMFUL,
    HARMLESS,
    LATER_HARMFUL,
    LATER_HARMLESS,
    TRIED_HARMFUL,
    TRIED_HARMLESS,
)

CASES = [*HARMFUL, *HARMLESS, *LATER_HARMFUL, *LATER_HARMLESS, *TRIED_HARMFUL, *TRIED_HARMLESS]


@pytest.fixture(scope="module")
def reasons(tmp_path_factory):
    """The reason of every row, by the two steps as a recipe runs them."""
    folder = tmp_path_factory.mktemp("cases")
    rows = [{"problem": problem, "answer": gold, "ability": "math"} for _, problem, gold in CASES]
    working = [working_row(row, FORMATS["plain"], source="mine", file="f", number=at) for at, row in enumerate(rows)]
    with DatasetWriter(folder / "dataset") as writer:
        writer.write(pa.RecordBatch.from_pylist(working, WORKING), [None] * len(rows))
    context = recipe.Context(folder, folder / "work", folder / "asked", 1)
    found = [[None] * len(rows)]
    for name in ("verifiable", "links"):
        step = recipe.STEPS[name]
        judged = step.judge(Dataset(folder / "dataset"), step.options(), context)
        found.append([drop and drop.reason for batch in judged for drop in batch])
    return [next(filter(None, whys), None) for whys in zip(*found, strict=True)]


@pytest.mark.parametrize("place", range(len(CASES)), ids=[f"{why}: {text[-40:]}: {gold}" for why, text, gold in CASES])
def test_a_row_leaves_for_its_reason_or_stays(reasons, place):
    assert reasons[place] == CASES[place][0], CASES[place][1:]


def test_the_tables_are_long_enough():
    assert min(len(HARMFUL), len(HARMLESS)) >= 60


@pytest.mark.parametrize(
    ("answer", "ability"),
    [
        ("Monday", "exact"),
        ("cat, dog", "exact"),
        ("the larger of the two", "math"),
        ("x==3", "math"),
        ("12", "math"),
    ],
)
def test_a_phrase_that_nobody_called_exact_is_left_to_verifiable(answer, ability):
    row = working_row({"problem": "p", "answer": answer}, FORMATS["plain"], source="s", file="f", number=1)
    assert row["ability"] == ability
    named = {"problem": "p", "answer": answer, "ability": "exact"}
    assert working_row(named, FORMATS["plain"], source="s", file="f", number=1)["ability"] == "exact"
    assert json.loads(row["ground_truth"]) == [answer]
