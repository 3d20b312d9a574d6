"""Measures how difficult a problem is for a model: grades N responses to it and counts the wrong ones (report 6.2).

Responses come from the rollout engines (``leeway sample`` in processes of its own; more workers may share its queue) or
from a model behind an endpoint. Rows may also bring their ratings along.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field

from ..common.batches import batched
from ..common.children import leaving_with_parent
from ..common.errors import DataError
from ..common.files import path_of, whole_file
from ..common.wording import counted
from .dataset import BATCH, Dataset, Drop, Judgement, Rated
from .endpoint import Ask, Endpoint, ask_all, sampling_seed
from .grading import UNREADABLE, verdicts_on
from .replies import Replies
from .step import Context, Options, local_or_hub

FAILED = ("wrong", "no_answer", "timeout")
"""Verdicts that count against the model. ``error`` is the verifier's own failure and does not count."""

WEIGHTS = ("json", "jinja", "safetensors")
"""File endings of a model folder that decide which model it is."""


class Difficulty(Options):
    """Options of ``difficulty``."""

    name: str = Field(min_length=1)
    """The model's name in model_difficulty."""
    model: str = ""
    """Folder of a model to sample from; with an endpoint, the model's name there. Empty: take the rows' ratings."""
    endpoint: str = ""
    """Address of an OpenAI-compatible endpoint, up to and with /v1."""
    responses: int = Field(default=16, ge=1)
    """Responses to each problem in mathematics."""
    responses_code: int = Field(default=8, ge=1)
    """Responses to each problem in code."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the fewest tokens that together have this probability."""
    max_tokens: int = Field(default=32768, ge=1)
    """Longest response, in tokens."""
    max_prompt_tokens: int = Field(default=2048, ge=1)
    """Longest prompt that the rollout workers take, in tokens."""
    seed: int = 0
    """Seed of the sampling."""
    never_solved: Literal["drop", "keep"] = "drop"
    """What becomes of rows that no response solves."""
    always_solved: Literal["drop", "keep"] = "drop"
    """What becomes of rows that every response solves."""
    grading_s: float = Field(default=10.0, gt=0)
    """Seconds that grading one response may take."""
    engine: Literal["torch", "vllm"] = "vllm"
    """Engine of the rollout workers."""
    workers: int = Field(default=1, ge=0)
    """Rollout workers to start. 0: none, because others start them."""
    settings: tuple[str, ...] = ()
    """More keys of the rollout workers' configuration, as ``leeway sample --set`` takes them."""
    run: str = ""
    """Name under which rollout workers elsewhere may join, with LEEWAY_REDIS_URL for the server."""
    concurrency: int = Field(default=64, ge=1)
    """Most requests under way at the endpoint."""
    timeout_s: float = Field(default=3600.0, gt=0)
    """Seconds to wait for one answer of the endpoint."""
    tries: int = Field(default=6, ge=1)
    """How often a request that fails is tried in all."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the endpoint's key."""

    CHANGE_NO_ROW: ClassVar = frozenset(
        {"workers", "run", "endpoint", "concurrency", "timeout_s", "tries", "key_variable"}
    )
    CHANGE_NO_QUESTION: ClassVar = frozenset({"name", "never_solved", "always_solved"})

    def plain(self, *, questions: bool = False) -> dict[str, Any]:
        return super().plain(questions=questions) | {"at_an_endpoint": bool(self.endpoint)}

    def files(self, folder: Path) -> list[Path]:
        if not self.model or self.endpoint:
            return []
        return sorted(path for ending in WEIGHTS for path in (folder / path_of(self.model)).glob(f"*.{ending}"))

    def due(self, ability: str) -> int:
        """Responses due for a problem of this ability."""
        return self.responses_code if ability == "code" else self.responses


@dataclass(slots=True)
class Grades:
    """What became of the responses of n rows: counts by row, int32, shape [n] each."""

    solved: np.ndarray
    failed: np.ndarray
    errors: np.ndarray
    """Responses on which the verifier itself failed."""
    unread: np.ndarray
    """Responses that nobody grades, because the verifier cannot read the golds or tests."""
    refused: np.ndarray
    """Requests that the endpoint, or ``leeway sample``, cannot take."""

    @classmethod
    def none(cls, rows: int) -> Grades:
        """The counts before the first response."""
        return cls(*(np.zeros(rows, dtype=np.int32) for _ in range(5)))

    def count(self, row: int, verdict: str) -> None:
        """Count one response of a row."""
        if verdict == "correct":
            self.solved[row] += 1
        elif verdict in FAILED:
            self.failed[row] += 1
        else:
            (self.unread if verdict == UNREADABLE else self.errors)[row] += 1


def difficulty(dataset: Dataset, options: Difficulty, context: Context) -> Iterator[list[Judgement]]:
    """Rate each problem by a model's failures; drop what it never or always solves, and what cannot be rated."""
    if not options.model:
        yield from _as_rated_before(dataset, options)
        return
    grades = _asked(dataset, options, context) if options.endpoint else _sampled(dataset, options, context)
    rated = (rating_of(options, grades, row, found["ability"]) for row, found in enumerate(dataset.each("ability")))
    yield from batched(rated, BATCH)


def rating_of(options: Difficulty, grades: Grades, row: int, ability: str) -> Judgement:
    """What becomes of a row by its grades: a rating, or a drop if too few of its responses were graded."""
    due, solved = options.due(ability), int(grades.solved[row])
    graded = solved + int(grades.failed[row])
    said = f"{graded} of {due} responses graded"
    if graded < due:
        if grades.unread[row]:
            return Drop("not rated: the verifier cannot read it", said)
        if grades.refused[row]:
            return Drop("not rated: it cannot be asked", said)
        if grades.errors[row]:
            return Drop("not rated: grading fails", said)
        return Drop("not rated yet: responses are missing", said)
    return _by_failures(options, due - solved, due)


def _by_failures(options: Difficulty, failures: int, due: int) -> Rated:
    detail, drop = f"solved {due - failures} of {due} times", None
    if failures == due and options.never_solved == "drop":
        drop = Drop(f"never solved by {options.name}", detail)
    elif failures == 0 and options.always_solved == "drop":
        drop = Drop(f"always solved by {options.name}", detail)
    return Rated(options.name, failures, drop)


def _as_rated_before(dataset: Dataset, options: Difficulty) -> Iterator[list[Judgement]]:
    """Judge rows by the ratings that they bring. Published ratings are of 16 responses for code too, so
    ``responses_code`` has to be 16 for them."""

    def judged(row: dict[str, Any]) -> Judgement:
        failures = json.loads(row["difficulty"] or "{}").get(options.name)
        if failures is None:
            return Drop("not rated: the row brings no rating of this model", options.name)
        due = options.due(row["ability"])
        if not 0 <= failures <= due:
            return Drop("not rated: more failures than responses", f"{failures} of {due}")
        return _by_failures(options, failures, due)

    for rows in dataset.rows("ability", "difficulty"):
        yield [judged(row) for row in rows]


# --- an endpoint -----------------------------------------------------------------------------------------------------


def _asked(dataset: Dataset, options: Difficulty, context: Context) -> Grades:
    endpoint = Endpoint(
        name=options.name,
        url=options.endpoint,
        model=options.model,
        key_variable=options.key_variable,
        concurrency=options.concurrency,
        timeout_s=options.timeout_s,
        tries=options.tries,
    )
    sampling = {"temperature": options.temperature, "top_p": options.top_p, "max_tokens": options.max_tokens}
    answers, verdicts = context.asked / "responses.jsonl", context.asked / "verdicts.jsonl"
    with closing(Replies(answers, len(dataset), max(options.responses, options.responses_code))) as replies:
        asks = (ask for ask in _requests(dataset, options) if not replies.has(ask.row, ask.index))
        (tally,) = ask_all([(endpoint, asks, replies.add)], sampling)
        for ask, why in tally.refused:
            replies.refuse(ask, str(why))
        context.notes.append(f"{endpoint.shown}: {counted(len(replies), 'response')}")
    if tally.complaint:
        context.missing.append(f"difficulty by {tally.complaint}")
    grades = Grades.none(len(dataset))
    for found, verdict, _ in verdicts_on(answers, verdicts, jobs=context.jobs, timeout_s=options.grading_s):
        row = int(found["id"].partition(":")[0])
        if "refused" in found:
            grades.refused[row] += 1
        else:
            grades.count(row, verdict)
    return grades


def _requests(dataset: Dataset, options: Difficulty) -> Iterator[Ask]:
    for row, found in _problems(dataset):
        for index in range(options.due(found["ability"])):
            seed = sampling_seed(options.seed, row, index)
            yield Ask(row=row, index=index, messages=found["messages"], seed=seed, beside=_truth(found))


def _problems(dataset: Dataset) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(dataset.each("ability", "messages", "ground_truth"))


def _truth(row: dict[str, Any]) -> dict[str, Any]:
    """The keys of a row of ``leeway verify`` that say what a response is compared with."""
    truth = {"tests" if row["ability"] == "code" else "answer": json.loads(row["ground_truth"])}
    return {"ability": row["ability"], **truth}


# --- the rollout engines ---------------------------------------------------------------------------------------------

BAD_ROWS = DataError.exit_code
"""The exit code of ``leeway sample`` after it named rows that it cannot ask."""


def _sampled(dataset: Dataset, options: Difficulty, context: Context) -> Grades:
    grades = Grades.none(len(dataset))
    if not len(dataset):
        return grades
    problems, out = context.asked / "problems.jsonl", context.asked / "sample"
    _write_problems(dataset, options, problems)
    code = _sample(problems, out, local_or_hub(context.folder, options.model, "difficulty: model"), options)
    seen = np.zeros((len(dataset), max(options.responses, options.responses_code)), dtype=bool)
    for file in (out / "responses.parquet", *sorted(out.glob("parts/*.parquet"))):
        if file.exists():
            _count(file, seen, grades)
    silent = int((~seen[:, 0]).sum())
    if silent and code == BAD_ROWS:
        grades.refused += ~seen[:, 0]
        context.notes.append(f"{options.name}: {counted(silent, 'problem')} that leeway sample could not ask")
    elif silent:
        context.missing.append(f"difficulty by {options.name}: {counted(silent, 'problem')} without responses")
    return grades


def _write_problems(dataset: Dataset, options: Difficulty, path: Path) -> None:
    """Write the rows that ``leeway sample`` reads. An id is the row's number in the dataset."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, temporary.open("w") as lines:
        for row, found in _problems(dataset):
            due = {"responses": options.due(found["ability"])}
            lines.write(json.dumps({"id": row, "prompt": found["messages"], **_truth(found), **due}) + "\n")


def _sample(problems: Path, out: Path, model: str, options: Difficulty) -> int:
    """Run ``leeway sample``, which goes on where it was stopped. Returns its exit code."""
    command = [sys.executable, "-m", "leeway_rl.leeway.cli", "sample", str(problems), "--out", str(out)]
    for name in ("responses", "engine", "temperature", "top_p", "max_tokens", "max_prompt_tokens", "seed", "workers"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    command += ["--model", model, *(["--run", options.run] if options.run else [])]
    command += [word for setting in options.settings for word in ("--set", setting)]
    # In a session of its own, so that an interrupt reaches it once, and its workers through it.
    with subprocess.Popen(leaving_with_parent(command), stdout=sys.stderr, start_new_session=True) as sampling:
        try:
            code = sampling.wait()
        except KeyboardInterrupt:
            sampling.send_signal(signal.SIGINT)
            sampling.wait()
            raise
    if code not in (0, 1, BAD_ROWS) or not (out / "responses.parquet").exists():
        raise DataError(f"leeway sample {problems}: exit code {code}, see above; run the same command again to go on")
    return code


def _count(file: Path, seen: np.ndarray, grades: Grades) -> None:
    for batch in pq.ParquetFile(file).iter_batches(columns=["id", "index", "verdict"]):
        for found in batch.to_pylist():
            place = int(found["id"]), found["index"]
            if not seen[place]:
                seen[place] = True
                grades.count(place[0], found["verdict"])
