"""Grades a few rows before anything is trained: ``leeway check`` runs it as ``python -m … trial ROWS`` with the
configuration (TOML) on standard input.

To each row it grades the row's own answer in a box, and an empty response. It prints one JSON list: of each row where
it stands, its prompt, and the two verdicts.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from ...common.config import Config, expand, parse
from ...common.errors import told
from ...common.prompts import Row, row_of
from ...common.rows import file_rows
from ...common.types import Verdict, VerdictKind
from ..pool import GradeItem, GraderPool
from .grading import RewardGrader


def rows_of(config: Config, most: int) -> list[Row]:
    """The first rows of the file of a configuration. ``DataError`` names one that cannot be used."""
    path = Path(expand(config.source.path))
    return [
        row_of(values, f"{path.name}:{number}", f"{path}:{number}", config.source, config.rewards)
        for number, values in islice(file_rows(path, config.source.columns), most)
    ]


def graded(config: Config, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The verdicts on made-up responses to each row."""
    settings = config.verifier
    pool = GraderPool(1, timeout_s=settings.timeout_s, settings=settings, attempts=1)
    found = []
    with pool, RewardGrader(config, pool, jobs=1) if config.rewards else nullcontext() as rewards:
        for row in rows:
            texts = [*(f"\\boxed{{{gold}}}" for gold in row.ground_truth[:1] if row.ability != "code"), ""]
            items = [
                GradeItem(ability=row.ability, response=text, golds=row.ground_truth, finished=True) for text in texts
            ]
            verdicts = pool.grade(items) if rewards is None else rewards.grade(items, [1] * len(items), row.columns)
            said = [_said(text, verdict) for text, verdict in zip(texts, verdicts, strict=True)]
            found.append({"where": row.where, "prompt": row.messages[-1]["content"], "graded": said})
    return found


def _said(text: str, verdict: Verdict) -> dict[str, Any]:
    reward = None if verdict.kind is VerdictKind.ERROR else verdict.reward
    return {"response": text, "reward": reward, "verdict": verdict.kind.value, "reason": verdict.reason}


def main() -> None:
    """What a reward prints while it is imported does not mix with the answer."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    config = parse(sys.stdin.read())
    with answer:
        print(json.dumps(graded(config, rows_of(config, int(sys.argv[1])))), file=answer)


if __name__ == "__main__":
    sys.exit(told("", main))
