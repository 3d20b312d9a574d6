"""Data steps that let the verifier check a row against its own solution: golds of mathematics, tests of code."""

import itertools
import json
from collections.abc import Iterator
from typing import Any, Literal

from .dataset import Dataset, Drop, Judgement
from .grading import UNREADABLE, graded
from .step import Context, Options


class Answers(Options):
    """Options of ``answers``."""

    without_solution: Literal["keep", "drop"] = "keep"
    """Keep or drop rows that have no written solution."""
    timeout_s: float = 10.0
    """Seconds for one row."""


def answers(dataset: Dataset, options: Answers, context: Context) -> Iterator[list[Judgement]]:
    """Drop mathematics whose written solution, read again by Math-Verify, does not end in the gold."""

    def asks(row: dict[str, Any]) -> bool:
        return row["ability"] == "math" and row["solution"] is not None

    def request(row: dict[str, Any]) -> dict[str, Any]:
        gold = json.loads(row["ground_truth"])
        return {"response": row["solution"], "ability": "math", "answer": gold, "boxed": False}

    columns = ("ability", "solution", "ground_truth")
    requests = (request(row) for rows in dataset.rows(*columns) for row in rows if asks(row))
    verdicts = graded(requests, context.work, jobs=context.jobs, timeout_s=options.timeout_s)
    for rows in dataset.rows(*columns):
        judged: list[Judgement] = []
        for row in rows:
            if asks(row):
                judged.append(_answered(*next(verdicts), row))
            elif row["ability"] == "math" and options.without_solution == "drop":
                judged.append(Drop("no written solution"))
            else:
                judged.append(None)
        yield judged


def _answered(verdict: str, reason: str, row: dict[str, Any]) -> Judgement:
    gold = f"gold {', '.join(json.loads(row['ground_truth']))}"
    match verdict:
        case "correct":
            return None
        case "wrong":
            return Drop("the solution's answer is not the gold", f"{reason}; {gold}"[:300])
        case "no_answer":
            return Drop("the solution has no answer", f"{reason}; {gold}"[:300])
        case "timeout":
            return Drop("comparing takes too long", f"{reason}; {gold}"[:300])
        case _:
            return Drop("the answer cannot be graded", f"{reason}; {gold}"[:300])


class Tests(Options):
    """Options of ``tests``."""

    tries: int = 1
    """Reference solutions to try; one that passes is enough."""
    without_solution: Literal["keep", "drop"] = "drop"
    """Keep or drop rows that have no reference solution."""
    timeout_s: float = 60.0
    """Seconds for all tests of one row."""


def tests(dataset: Dataset, options: Tests, context: Context) -> Iterator[list[Judgement]]:
    """Drop code whose tests are incomplete, or not passed by a reference solution in the sandbox."""

    def programs(row: dict[str, Any]) -> list[str]:
        return json.loads(row["solution"])[: options.tries] if row["ability"] == "code" and row["solution"] else []

    columns = ("ability", "solution", "ground_truth")
    requests = (
        {"response": f"```python\n{program}\n```", "tests": json.loads(row["ground_truth"])}
        for rows in dataset.rows(*columns)
        for row in rows
        for program in programs(row)
    )
    verdicts = graded(requests, context.work, jobs=context.jobs, timeout_s=options.timeout_s)
    for rows in dataset.rows(*columns):
        judged: list[Judgement] = []
        for row in rows:
            tried = list(itertools.islice(verdicts, len(programs(row))))
            if tried:
                judged.append(_passed(tried))
            elif row["ability"] == "code" and options.without_solution == "drop":
                judged.append(Drop("no reference solution"))
            else:
                judged.append(None)
        yield judged


def _passed(tried: list[tuple[str, str]]) -> Judgement:
    if any(verdict == "correct" for verdict, _ in tried):
        return None
    verdict, reason = tried[0]
    if verdict == UNREADABLE:
        return Drop("tests are incomplete", reason[:300])
    if verdict == "error":
        return Drop("the tests could not be run", reason[:300])
    return Drop("the reference solution fails", f"{verdict}: {reason}"[:300])
