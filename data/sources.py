"""Sources: what the columns of each published set become. Makes one working row of one row. Pure.

``FORMATS`` is the table. A ``RowError`` names a row's defect; the row is then dropped and counted, never guessed at.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..common.errors import DataError
from ..common.golds import why_not_mathematics
from ..common.ground_truth import CODE, EXACT, MATH, ability_of, golds_of_text, is_gold
from ..common.json_text import parsed
from ..common.long_integers import MARK
from ..common.texts import defect, flaw
from .gold_form import is_code, is_prose

PREPARED = (MATH, EXACT, CODE)
"""Abilities whose rows can be prepared."""


class RowError(ValueError):
    """Why a row cannot be used: a short reason to count, and a detail that says what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """Columns of one published set. Of several names, the first column present counts; empty: no such column."""

    hub: str = ""
    """The set's name on the Hugging Face hub."""
    split: str = "train"
    files: str = ""
    """Files of the hub repository to read directly, for a set whose loading script no longer runs."""
    ability: str | None = "math"
    """The ability of all rows. None: a row names its own, or is mathematics."""
    problem: Sequence[str] = ("problem",)
    """The problem's text."""
    prompt: Sequence[str] = ()
    """What the model is asked, if that is more than the problem."""
    answer: Sequence[str] = ("answer",)
    """The gold or the list of golds (math)."""
    tests: Mapping[str, str] | str = ""
    """The ground truth of code: key → column, or one column that holds it as JSON."""
    starter: Sequence[str] = ()
    solution: Sequence[str] = ()
    """A written solution (math) or a program, or a JSON list of programs (code)."""
    subset: Sequence[str] = ()
    question_type: Sequence[str] = ()
    valid: Sequence[str] = ()
    """Columns that must all say Yes for the row to be valid."""
    year: Sequence[str] = ()
    before: int | None = None
    """Rows of this year or later are dropped."""
    difficulty: Sequence[str] = ()


FORMATS: Mapping[str, Format] = {
    "numina-1.5": Format(
        hub="AI-MO/NuminaMath-1.5",
        solution=("solution",),
        subset=("source",),
        question_type=("question_type",),
        valid=("problem_is_valid", "solution_is_valid"),
    ),
    "deepscaler": Format(hub="agentica-org/DeepScaleR-Preview-Dataset", solution=("solution",)),
    "still-3": Format(hub="RUC-AIBOX/STILL-3-Preview-RL-Data", problem=("question",)),
    "omni-math": Format(hub="KbsdJames/Omni-MATH", split="test", solution=("solution",), subset=("source",)),
    "aime": Format(
        hub="gneubig/aime-1983-2024",
        problem=("Question", "problem"),
        answer=("Answer", "answer"),
        solution=("solution",),
        year=("Year", "year"),
        before=2024,
    ),
    "leetcode": Format(
        hub="newfacade/LeetCodeDataset",
        ability="code",
        problem=("problem_description",),
        prompt=("query",),
        tests={"import_prefix": "prompt", "test_code": "test", "entry_point": "entry_point"},
        solution=("completion",),
        subset=("difficulty",),
    ),
    "taco": Format(
        hub="BAAI/TACO",
        files="ALL/train-*",
        ability="code",
        problem=("question",),
        tests="input_output",
        starter=("starter_code",),
        solution=("solutions",),
        subset=("source",),
    ),
    "skywork": Format(hub="Skywork/Skywork-OR1-RL-Data", split="math"),
    "plain": Format(
        ability=None,
        problem=("problem", "question", "prompt"),
        answer=("answer",),
        tests="tests",
        solution=("solution",),
        subset=("subset",),
    ),
}

INSTRUCTIONS = re.compile(
    r"(?<!\s)\s*+(?:Let's|Please|Let us) (?:think|reason) step by step,?\s*+(?:and|then) (?:output|put) (?:the|your) "
    r"final answer (?:with)?in \\boxed\{\}\.?\s*+$"
    r"|(?<!\s)\s*+(?:Please )?(?:Put|Give|Write|Enclose|Provide|Present|State|Box) (?:only )?your (?:final )?answer"
    r" (?:with)?in(?:side)? (?:a )?\\boxed\{\}\.?\s*+$"
    r"|^(?:Please )?(?:Solve|Answer) the following (?:math(?:s|ematics|ematical)? )?(?:problem|question)[.:]\s++"
    r"|^You (?:are an expert Python programmer\. You )?will be given a question \(problem specification\).*?\n"
    r"(?:### )?Question:?(?:[^\S\n]*+\n)++"
    r"|(?<!\n)\n++### (?:Format|Answer):.*$",
    re.DOTALL | re.IGNORECASE,
)
"""What published prompts say around the problem. Thousands of rows share it, so it does not count for likeness."""


def working_row(values: Any, form: Format, *, source: str, file: str, number: int) -> dict[str, Any]:
    """The working row (``dataset.WORKING``) of one row's values."""
    if not isinstance(values, Mapping):
        raise RowError("not an object", f"found {type(values).__name__}")
    row = {"source": source, "file": file, "row": number, "subset": None, "question_type": None, "valid": None}
    if "reward_model" in values:
        return row | _skywork(values)
    problem = _text(values, form.problem, "problem")
    _refuse_year(values, form)
    is_code = form.ability == CODE or (isinstance(form.tests, str) and values.get(form.tests) is not None)
    truth = _tests(values, form) if is_code else golds(_present(values, form.answer, "answer"))
    named = CODE if is_code else form.ability or _named(values)
    prompt = _text(values, form.prompt, "prompt") if form.prompt else problem
    starter = _optional(values, form.starter)
    if is_code and starter:
        prompt += f"\n\nComplete this code:\n```python\n{starter}\n```"
    return row | {
        "ability": _ability(named, truth),
        "messages": [{"content": prompt, "role": "user"}],
        "problem": without_instructions(problem),
        "ground_truth": truth if is_code else json.dumps(truth),
        "solution": _solution(values, form, is_code),
        "subset": _optional(values, form.subset),
        "question_type": _optional(values, form.question_type),
        "valid": _valid(values, form),
        "difficulty": None,
    }


def without_instructions(text: str) -> str:
    """The prompt without the instructions around its problem."""
    return INSTRUCTIONS.sub("", text).strip() if len(text) < 200_000 else text


def golds(answer: Any) -> list[str]:
    """The golds in a row's answer, as texts; they are alternatives. ``RowError`` if there are none."""
    if isinstance(answer, dict) and answer.keys() == {MARK}:
        answer = answer[MARK]  # an integer longer than Python reads
    listed = list(answer) if isinstance(answer, (list, tuple)) else [answer]
    if not listed or not all(is_gold(gold) and flaw(gold) is None for gold in listed):
        raise RowError("the answer is no text or number", repr(answer)[:80])
    for gold in listed:
        refuse_control(str(gold))  # before a form feed, which was \\f of \\frac, is taken for a blank
    if not all(str(gold).strip() for gold in listed):
        raise RowError("the answer is empty", repr(answer)[:80])
    return [str(gold).strip() for gold in listed]


def refuse_control(text: str) -> None:
    """``RowError`` if a prompt or a gold has a control character, which training refuses too."""
    if (wrong := defect(text)) is not None:
        raise RowError("a control character in the prompt or the gold", wrong)


def _named(values: Mapping[str, Any]) -> str | None:
    """The ability that a row names, or None."""
    if values.get("ability") is None:
        return None
    try:
        ability = ability_of(values, "")
    except DataError as error:
        raise RowError("an ability that nothing grades", str(error).removeprefix(": ")) from None
    if ability not in PREPARED:
        raise RowError(f"rows of ability {ability} are not prepared", f"those of {', '.join(PREPARED)} are")
    return ability


def _ability(named: str | None, golds: Sequence[str]) -> str:
    """The ability of a row with golds. Words and bare sums that nobody called mathematics are compared as written.
    Phrases and code that nobody called ``exact`` are not: the data step ``verifiable`` drops them."""
    unusable = any(is_prose(gold) or is_code(gold) for gold in golds)
    return named or (MATH if unusable or why_not_mathematics(golds) is None else EXACT)


def with_columns(form: Format, columns: Mapping[str, str]) -> Format:
    """The format with other column names. A ``ValueError`` names a key that does not exist."""
    known = ("problem", "prompt", "answer", "tests", "starter", "solution", "subset", "question_type", "year")
    unknown = sorted(set(columns) - set(known))
    if unknown:
        raise ValueError(f"columns.{unknown[0]}: no such key; known: {', '.join(known)}")
    return replace(form, **{key: name if key == "tests" else (name,) for key, name in columns.items()})  # type: ignore[arg-type]


def _present(values: Mapping[str, Any], names: Sequence[str], what: str) -> Any:
    for name in names:
        if values.get(name) is not None:
            return values[name]
    found = ", ".join(map(str, values)) or "none"
    if not any(name in values for name in names):
        raise RowError(f"column {' or '.join(map(repr, names))} is missing", f"columns found: {found}")
    raise RowError(f"the {what} is null", f"column {next(name for name in names if name in values)!r}")


def _text(values: Mapping[str, Any], names: Sequence[str], what: str) -> str:
    text = _present(values, names, what)
    if not isinstance(text, str):
        raise RowError(f"the {what} is no text", f"{type(text).__name__}: {text!r}"[:80])
    if not text.strip():
        raise RowError(f"the {what} is empty")
    return text


def _optional(values: Mapping[str, Any], names: Sequence[str]) -> str | None:
    found = next((values[name] for name in names if values.get(name) is not None), None)
    return None if found is None or not str(found).strip() else str(found)


def _valid(values: Mapping[str, Any], form: Format) -> bool | None:
    said = [str(values[name]) for name in form.valid if values.get(name) is not None]
    return all(word.lower() in ("yes", "true") for word in said) if said else None


def _refuse_year(values: Mapping[str, Any], form: Format) -> None:
    if form.before is None:
        return
    year = _present(values, form.year, "year")
    try:
        late = int(str(year)[:4]) >= form.before
    except ValueError:
        raise RowError("the year is no number", repr(year)[:80]) from None
    if late:
        raise RowError(f"of {form.before} or later", str(year))


def _tests(values: Mapping[str, Any], form: Format) -> str:
    if isinstance(form.tests, str):
        tests = _present(values, (form.tests,), "list of tests")
    else:
        tests = {key: _present(values, (column,), key) for key, column in form.tests.items()}
    if isinstance(tests, str):
        try:
            tests = parsed(tests)
        except ValueError as error:
            raise RowError("the tests are not JSON", str(error)) from None
    if not isinstance(tests, (dict, list)) or not tests:
        raise RowError("the tests are empty", repr(tests)[:80])
    if (wrong := flaw(tests)) is not None:
        raise RowError("the tests cannot be written as JSON", f"tests{wrong[0]}: {wrong[1]}")
    return json.dumps(tests)


def _solution(values: Mapping[str, Any], form: Format, is_code: bool) -> str | None:
    """The row's written solution; for code, a JSON list of programs. None if it has none."""
    found = next((values[name] for name in form.solution if values.get(name) is not None), None)
    if not is_code:
        return str(found) if found is not None and str(found).strip() else None
    if isinstance(found, str):
        try:
            listed = json.loads(found)
        except (ValueError, RecursionError):
            listed = [found]
        found = listed if isinstance(listed, list) else [found]
    programs = [str(program) for program in found or () if str(program).strip()]
    return json.dumps(programs) if programs else None


def _skywork(values: Mapping[str, Any]) -> dict[str, Any]:
    model = values["reward_model"]
    truth = model.get("ground_truth") if isinstance(model, Mapping) else None
    if not isinstance(truth, str) or not truth:
        raise RowError("reward_model.ground_truth is no text", repr(truth)[:80])
    ability = _named(values)
    if ability == CODE:
        judge: Any = _tests({"tests": truth}, FORMATS["plain"])
    else:
        alternatives = golds(golds_of_text(truth))
        ability, judge = _ability(ability, alternatives), json.dumps(alternatives)
    difficulty = _difficulty(values.get("extra_info"))
    messages = _messages(values.get("prompt"))
    return {
        "ability": ability,
        "messages": messages,
        "problem": without_instructions(messages[-1]["content"]),
        "ground_truth": judge,
        "solution": None,
        "subset": _optional(values, ("data_source",)),
        "difficulty": json.dumps(difficulty, sort_keys=True) if difficulty else None,
    }


def _difficulty(extra: Any) -> dict[str, int]:
    """Failures by model, for the models that rated the row."""
    found = extra.get("model_difficulty") if isinstance(extra, Mapping) else None
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise RowError("model_difficulty is no {model: failures}", repr(found)[:80])
    rated = {model: failures for model, failures in found.items() if failures is not None and failures == failures}
    for model, failures in rated.items():  # a table may have made floats of them
        number = isinstance(failures, (int, float)) and not isinstance(failures, bool)
        if not number or not float(failures).is_integer() or failures < 0:
            raise RowError("model_difficulty is no {model: failures}", f"{model}: {failures!r}"[:80])
    return {str(model): int(failures) for model, failures in rated.items()}


def _messages(prompt: Any) -> list[dict[str, str]]:
    if isinstance(prompt, str) and prompt.strip():
        return [{"content": prompt, "role": "user"}]
    if not isinstance(prompt, (list, tuple)) or not prompt:
        raise RowError("the prompt is no list of messages", repr(prompt)[:80])
    found = []
    for message in prompt:
        if not isinstance(message, Mapping) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise RowError("a message is no {role, content}", repr(message)[:80])
        found.append({"content": message["content"], "role": message["role"]})
    return found
