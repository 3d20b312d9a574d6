"""Ground truths: the ability by which a row is judged, and what its responses are compared with. Pure.

Training, evaluation, data preparation and ``leeway verify`` all read rows here. A row names its ability:

| ability | the row holds | a response is right if |
|---|---|---|
| ``math`` | ``answer``: a gold, or a list of texts as alternatives | its value is a gold's |
| ``exact`` | the same | its text is a gold's |
| ``code`` | ``tests`` | it passes them |
| ``reasoning_gym`` | ``entry``, as the package made it | the package's own scorer gives 1 |
| ``solution`` | ``answer`` | as ``math``, and it need not box anything (books, when data is prepared) |

The training schema has any of these as a text in ``reward_model.ground_truth``. A row that names no ability is ``code``
if it has tests, ``reasoning_gym`` if it has an entry, and else ``math``; but words and bare sums are not silently taken
for mathematics (``golds.py``).
"""

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .config import Data
from .errors import DataError
from .golds import escaping_slip, why_not_mathematics
from .json_text import parsed
from .long_integers import MARK
from .texts import flaw

MATH, EXACT, CODE, REASONING_GYM, SOLUTION = "math", "exact", "code", "reasoning_gym", "solution"
ABILITIES = (MATH, EXACT, CODE, REASONING_GYM, SOLUTION)
OWN = "own"
"""The ability of rows that reward functions alone judge. No row names it."""


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """What the responses to a row are judged by."""

    ability: str
    """One of ``ABILITIES``."""
    golds: tuple[str, ...]
    """For ``math``, ``exact`` and ``solution``: golds as alternatives. For ``code`` and ``reasoning_gym``: one JSON
    text."""


def ground_truth_of(values: Mapping[str, Any], where: str, data: Data | None = None) -> GroundTruth:
    """The ability and the golds of a row. ``data`` says what holds for rows that say nothing themselves. Raises
    ``DataError``, which says what is wrong at ``where`` (file and row), and what would be right."""
    otherwise = None if data is None else data.ability
    ability = ability_of(values, where, otherwise)
    if ability == CODE:
        return GroundTruth(CODE, (_tests(values, where, None if data is None else data.comparison),))
    if ability == REASONING_GYM:
        return GroundTruth(REASONING_GYM, (_entry(values, where),))
    golds = _golds(values, where)
    for gold in golds:
        if (slip := escaping_slip(gold)) is not None:
            raise DataError(f"{where}: {slip}")
    if values.get("ability") is None and otherwise is None and (why := why_not_mathematics(golds)) is not None:
        raise DataError(f"{where}: {why}")
    return GroundTruth(ability, golds)


def ability_of(values: Mapping[str, Any], where: str, otherwise: str | None = None) -> str:
    """The ability that a row names, in any case of letters, or else the one that its columns imply."""
    named = values.get("ability")
    if named is None:
        held = CODE if _held(values, "tests") else REASONING_GYM if _held(values, "entry") else None
        return held or otherwise or MATH
    if isinstance(named, str) and named.strip().lower() in ABILITIES:
        return named.strip().lower()
    close = difflib.get_close_matches(str(named).lower(), ABILITIES, n=1)
    guess = f"; did you mean {close[0]!r}?" if close else ""
    raise DataError(
        f"{where}: ability = {str(named)[:80]!r}: nothing grades that; known: {', '.join(ABILITIES)}{guess}"
    )


def _held(values: Mapping[str, Any], key: str) -> bool:
    """Whether the row has a value for ``key``. In a table, an object of nothing but nulls means that the row has
    none."""
    value = values.get(key)
    return any(part is not None for part in value.values()) if isinstance(value, dict) and value else value is not None


def golds_of_text(text: str) -> tuple[str, ...]:
    """The golds in a ground truth's text. Only a JSON list of texts means alternatives: ``["2", "5"]`` does, but
    ``[2, 5]`` is an interval and ``[[1, 2], [3, 4]]`` a matrix. A JSON text is that text. Anything else is one gold as
    it is written, so that 0.50 stays 0.50."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return (text,)
    if isinstance(found, str):
        return (found,)
    if isinstance(found, list) and all(isinstance(gold, str) for gold in found):
        return tuple(found)
    return (text,)


def _golds(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if values.get("answer") is not None:
        answer = values["answer"]
        if isinstance(answer, dict) and answer.keys() == {MARK}:
            answer = answer[MARK]  # an integer longer than Python reads
        golds = tuple(answer) if isinstance(answer, (list, tuple)) else (answer,)
        if len(golds) > 1 and not all(type(gold) is str for gold in golds):
            raise DataError(
                f"{where}: answer = {str(answer)[:80]} is no list of texts: write it as a text where it is one "
                'answer ("[2,5]"), as texts where they are alternatives (["2", "5"])'
            )
    elif "reward_model" in values:
        golds = answer = golds_of_text(_written(values, where))
    else:
        raise DataError(
            f"{where}: a row without an answer; give 'answer', 'tests', 'entry' or 'reward_model.ground_truth'"
        )
    if not golds or not all(is_gold(gold) and str(gold).strip() for gold in golds):
        raise DataError(f"{where}: answer is a text or a list of texts, found {str(answer)[:80]!r}")
    return tuple(str(gold) for gold in golds)


def is_gold(gold: Any) -> bool:
    """Whether a gold may be of this kind: a text or a finite number."""
    kind = isinstance(gold, (str, int, float)) and not isinstance(gold, bool)
    return kind and not (isinstance(gold, float) and not math.isfinite(gold))


def _tests(values: Mapping[str, Any], where: str, comparison: str | None) -> str:
    """The tests of a row as one JSON text, an object or a list. The verifier reads what is in it, or refuses it."""
    tests = values["tests"] if _held(values, "tests") else _written(values, where)
    tests = _parsed(tests, where, "the tests of a code row")
    if not isinstance(tests, (dict, list)) or not tests:
        raise DataError(f"{where}: the tests of a code row are an object that is not empty, found {str(tests)[:80]!r}")
    _refuse_flaw(tests, where, "tests")
    if comparison is not None:
        tests = {"public_test_cases": tests} if isinstance(tests, list) else tests
        if not any(tests.get(key) is not None for key in ("comparison", "tolerance", "checker")):
            tests = {**tests, "comparison": comparison}
    return json.dumps(tests)


def _entry(values: Mapping[str, Any], where: str) -> str:
    """One JSON text: the entry, and the options of the generator that made it if the row has them."""
    entry = values["entry"] if _held(values, "entry") else _written(values, where)
    entry = _parsed(entry, where, "the entry of a reasoning_gym row")
    options: Any = _parsed(values.get("options") or {}, where, "the options of a reasoning_gym row")
    if isinstance(entry, dict) and "entry" in entry:
        entry, options = entry["entry"], entry.get("options") or options
    if not isinstance(options, dict):
        raise DataError(f"{where}: options are the generator's own, an object, found {str(options)[:80]!r}")
    # A table gives every row every key. The keys that a problem was drawn by do not concern its scorer.
    options = {key: value for key, value in options.items() if value is not None and key not in ("seed", "size")}
    metadata = entry.get("metadata") if isinstance(entry, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("source_dataset"), str) or "answer" not in entry:
        raise DataError(
            f"{where}: an entry is what the package reasoning_gym makes, with question, answer and "
            f"metadata.source_dataset, found {str(entry)[:80]!r}"
        )
    _refuse_flaw(entry, where, "entry")
    _refuse_flaw(options, where, "options")
    return json.dumps({"entry": entry, "options": options})


def _refuse_flaw(value: Any, where: str, column: str) -> None:
    """``DataError`` if the value cannot become the JSON text that the verifier will read."""
    if (found := flaw(value)) is not None:
        raise DataError(f"{where}: column {column}{found[0]}: {found[1]}")


def _parsed(value: Any, where: str, what: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parsed(value)
    except ValueError as error:
        raise DataError(f"{where}: {what} is JSON: {error}") from error


def _written(values: Mapping[str, Any], where: str) -> str:
    model = values.get("reward_model")
    text = model.get("ground_truth") if isinstance(model, Mapping) else None
    if not isinstance(text, str) or not text:
        raise DataError(f"{where}: reward_model.ground_truth is a JSON text, found {str(text)[:80]!r}")
    return text
