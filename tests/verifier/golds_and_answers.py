"""Tables of golds and answers, as parameters of tests of mathematics."""

from __future__ import annotations

import pytest


def cases(table: dict[str, list[tuple[str, str]]]) -> list[object]:
    """(gold, answer) of every row, each named by its rule."""
    return [
        pytest.param(gold, answer, id=f"{rule}: {answer} for {gold}")
        for rule, rows in table.items()
        for gold, answer in rows
    ]
