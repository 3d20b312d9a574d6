"""Data steps that look at one row at a time: what no verifier can judge, links and figures, prompts too long."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..common.errors import DataError
from ..common.files import path_of
from ..common.preflight.tokens import load_tokenizer
from ..common.prompts import rendered
from ..common.wording import counted
from .asked import asks_for_a_proof, asks_several, lacks_choices
from .dataset import Dataset, Drop, Judgement
from .figures import needs_a_figure
from .gold_form import why_no_gold
from .step import Context, Options, local_or_hub


class Verifiable(Options):
    """Options of ``verifiable``."""

    question_types: tuple[str, ...] = ("proof",)
    """Question types to drop."""
    trust_flags: bool = True
    """Drop rows that their source calls invalid."""
    longest_answer: int = 200
    """Most characters of a gold."""


def verifiable(dataset: Dataset, options: Verifiable, context: Context) -> Iterator[list[Judgement]]:
    """Drop what no verifier can judge: proofs, what its source calls invalid, golds that are no answer, empty tests."""
    for rows in dataset.rows("ability", "problem", "ground_truth", "question_type", "valid"):
        yield [_verifiable(row, options) for row in rows]


def _verifiable(row: dict[str, Any], options: Verifiable) -> Judgement:
    if options.trust_flags and row["valid"] is False:
        return Drop("called invalid by its source")
    if row["question_type"] in options.question_types:
        return Drop("of a question type to drop", row["question_type"])
    if row["ability"] == "code":
        return _incomplete_tests(json.loads(row["ground_truth"]))
    golds = json.loads(row["ground_truth"])
    if found := asks_for_a_proof(row["problem"]):
        return Drop("asks for a proof", found[:80])
    if found := asks_several(row["problem"]):
        return Drop("asks several questions", found[:80])
    if found := lacks_choices(row["problem"], golds):
        return Drop("its choices are missing", found[:80])
    for gold in golds:
        if why := why_no_gold(gold, row["ability"], options.longest_answer):
            return Drop(*why)
    return None


def _incomplete_tests(tests: Any) -> Judgement:
    """Judge tests as far as possible without running them. The data step ``tests`` does the rest."""
    if not isinstance(tests, dict):
        return None
    tests = {key: value for key, value in tests.items() if value is not None}
    if "inputs" in tests or "outputs" in tests:
        inputs, outputs = tests.get("inputs"), tests.get("outputs")
        if not isinstance(inputs, list) or not isinstance(outputs, list) or len(inputs) != len(outputs):
            return Drop("tests are incomplete", "there must be as many outputs as inputs")
        if not inputs:
            return Drop("there are no tests")
        if any(output is None or output in ("", []) for output in outputs):
            return Drop("tests are incomplete", "an output is empty")
    elif "test_code" in tests and "assert" not in str(tests["test_code"]):
        return Drop("there are no tests", "test_code asserts nothing")
    elif "assert_case" in tests and not tests["assert_case"]:
        return Drop("there are no tests")
    return None


_LINK = re.compile(r"https?://|www\.\w|\bgoo\.gl/|\]\(\s*+(?:\w++:/|/\w)", re.IGNORECASE)


class Links(Options):
    """Options of ``links``."""

    figures: bool = True
    """Also drop problems that seem to need a figure."""


def links(dataset: Dataset, options: Links, context: Context) -> Iterator[list[Judgement]]:
    """Drop mathematics with external links, or that seems to need a figure."""

    def judged(row: dict[str, Any]) -> Judgement:
        if row["ability"] == "code":
            return None
        if found := _LINK.search(row["problem"]):
            return Drop("an external link", _around(row["problem"], found))
        if options.figures and (found := needs_a_figure(row["problem"])):
            return Drop("a figure", _around(row["problem"], found))
        return None

    for rows in dataset.rows("ability", "problem"):
        yield [judged(row) for row in rows]


def _around(text: str, found: re.Match[str]) -> str:
    return " ".join(text[max(0, found.start() - 30) : found.end() + 30].split())


class Length(Options):
    """Options of ``length``."""

    tokenizer: str
    """Folder or hub name of the model whose tokenizer counts."""
    max_tokens: int = 2048
    """Most tokens of a prompt after the chat template."""

    def files(self, folder: Path) -> list[Path]:
        return sorted((folder / path_of(self.tokenizer)).glob("*.json"))


def length(dataset: Dataset, options: Length, context: Context) -> Iterator[list[Judgement]]:
    """Drop prompts too long for the tokenizer."""
    name = local_or_hub(context.folder, options.tokenizer, "length: tokenizer")
    try:
        tokenizer = load_tokenizer(name)
    except DataError as error:
        raise DataError(f"length: tokenizer = {options.tokenizer!r}: {error}") from error
    for rows in dataset.rows("messages"):
        texts, refused = list[str](), dict[int, str]()
        for place, row in enumerate(rows):
            try:
                texts.append(_templated(tokenizer, row["messages"]))
            except DataError as error:
                texts.append("")
                refused[place] = str(error)
        plain = tokenizer.chat_template is None
        lengths = [len(ids) for ids in tokenizer(texts, add_special_tokens=plain)["input_ids"]]
        yield [
            Drop("the chat template refuses the prompt", refused[place])
            if place in refused
            else Drop("the prompt is too long", counted(tokens, "token"))
            if tokens > options.max_tokens
            else None
            for place, tokens in enumerate(lengths)
        ]


def _templated(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    if tokenizer.chat_template is None:
        return "\n".join(message["content"] for message in messages)
    return rendered(messages, tokenizer, "length")
