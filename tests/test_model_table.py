"""The page of models says what ``make models`` has measured, and the learner knows the kinds that it names."""

import pytest
from leeway_rl.common.preflight.architecture import TRIED

from tests.architectures import ARCHITECTURES
from tests.model_table import FOLDER, PAGE, page, read

ROWS = read()


@pytest.mark.parametrize("kind", ROWS)
def test_a_recorded_row_is_as_it_must_be(kind):
    row, asked = ROWS[kind], {each.kind: each for each in ARCHITECTURES}[kind]
    assert row.why_wrong() == [] if row.trained else asked.refused
    assert asked.refused in row.words
    assert bool(asked.refused) != row.trained


def test_every_architecture_has_its_row():
    assert set(ROWS) == {each.kind for each in ARCHITECTURES}


def test_the_kinds_that_the_learner_does_not_check_are_those_that_were_trained():
    assert {kind for kind, row in ROWS.items() if row.trained} == TRIED


def test_the_page_has_the_tables_of_what_was_measured():
    text = (FOLDER / PAGE).read_text()
    assert page(text, ROWS) == text
