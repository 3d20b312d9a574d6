"""How difficult a problem is for a model: N responses to it, graded, and the wrong ones counted (report 6.2).

Responses come from the rollout engines (``leeway sample``, in processes of its own; more workers may share its
queue) or from a model behind an endpoint; or rows bring their ratings along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ..common.errors import DataError
from .endpoint import Ask, Endpoint, ask_all, sampling_seed
from .grading import UNREADABLE, verdicts_on
from .replies import Replies
from .stages import Drop, Judgement, Rated, Stage
from .step import Context, Options

FAILED = ("wrong", "no_answer", "timeout")
"""Verdicts that count against the model; ``error`` is the verifier's own and counts for nothing."""

WEIGHTS = ("json", "jinja", "safetensors")
"""Endings of what makes a model's folder the model it is."""


class Difficulty(Options):
    """Options of ``difficulty``."""

    name: str = Field(min_length=1)
    """The model's name in model_difficulty."""
    model: str = ""
    """Folder of a model to sample from; with an endpoint, the model's name there. None: ratings that rows bring."""
    endpoint: str = ""
    """Address of an OpenAI-compatible endpoint, up to and with /v1."""
    responses: int = Field(default=16, ge=1)
    """For each problem in mathematics."""
    responses_code: int = Field(default=8, ge=1)
    """For each problem in code."""
    temperature: float = Field(default=1.0, ge=0)
    """Of sampling."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of sampling."""
    max_tokens: int = Field(default=32768, ge=1)
    """Longest response."""
    seed: int = 0
    """Of sampling."""
    never_solved: Literal["drop", "keep"] = "drop"
    """Rows that no response solves."""
    always_solved: Literal["drop", "keep"] = "drop"
    """Rows that every response solves."""
    grading_s: float = Field(default=10.0, gt=0)
    """Seconds for grading one response."""
    engine: Literal["torch", "vllm"] = "vllm"
    """Of the rollout workers."""
    workers: int = Field(default=1, ge=1)
    """Rollout workers to start."""
    run: str = ""
    """Name under which rollout workers elsewhere may join, with LEEWAY_REDIS_URL for the server."""
    concurrency: int = Field(default=64, ge=1)
    """Requests under way at the endpoint."""
    timeout_s: float = Field(default=3600.0, gt=0)
    """For one answer of the endpoint."""
    tries: int = Field(default=6, ge=1)
    """Of a request that fails."""
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
        return sorted(path for ending in WEIGHTS for path in (folder / self.model).glob(f"*.{ending}"))

    def due(self, ability: str) -> int:
        """Responses for a problem."""
        return self.responses_code if ability == "code" else self.responses


@dataclass(slots=True)
class Grades:
    """Of n rows: what became of each response, int32 [n] each."""

    solved: np.ndarray
    failed: np.ndarray
    errors: np.ndarray
    """The verifier's own."""
    unread: np.ndarray
    """Graded by nobody: golds or tests that the verifier cannot read."""
    refused: np.ndarray
    """Requests that the endpoint takes from nobody."""

    @classmethod
    def none(cls, rows: int) -> Grades:
        """Before the first response."""
        return cls(*(np.zeros(rows, dtype=np.int32) for _ in range(5)))

    def count(self, row: int, verdict: str) -> None:
        """Count one response."""
        if verdict == "correct":
            self.solved[row] += 1
        elif verdict in FAILED:
            self.failed[row] += 1
        else:
            (self.unread if verdict == UNREADABLE else self.errors)[row] += 1


def difficulty(stage: Stage, options: Difficulty, context: Context) -> Iterator[list[Judgement]]:
    """Rate each problem by a model's failures; drop what it never or always solves, and what cannot be rated."""
    if not options.model:
        yield from _as_rated_before(stage, options)
        return
    grades = _asked(stage, options, context) if options.endpoint else _sampled(stage, options, context)
    row = 0
    for abilities in stage.rows("ability"):
        judged = [_rated(options, grades, row + number, found["ability"]) for number, found in enumerate(abilities)]
        row += len(judged)
        yield judged


def _rated(options: Difficulty, grades: Grades, row: int, ability: str) -> Judgement:
    due, solved = options.due(ability), int(grades.solved[row])
    graded = solved + int(grades.failed[row])
    said = f"{graded} of {due} responses graded"
    if graded < due:
        if grades.unread[row]:
            return Drop("not rated: the verifier cannot read it", said)
        if grades.refused[row]:
            return Drop("not rated: the endpoint refuses it", said)
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


def _as_rated_before(stage: Stage, options: Difficulty) -> Iterator[list[Judgement]]:
    """By what stands in the rows. Published ratings are of 16, code as well: ``responses_code`` has to say so."""

    def judged(row: dict[str, Any]) -> Judgement:
        failures = json.loads(row["difficulty"] or "{}").get(options.name)
        if not isinstance(failures, int):
            return Drop("not rated: the row brings no rating of this model", options.name)
        due = options.due(row["ability"])
        if not 0 <= failures <= due:
            return Drop("not rated: more failures than responses", f"{failures} of {due}")
        return _by_failures(options, failures, due)

    for rows in stage.rows("ability", "difficulty"):
        yield [judged(row) for row in rows]


# --- an endpoint -----------------------------------------------------------------------------------------------------


def _asked(stage: Stage, options: Difficulty, context: Context) -> Grades:
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
    with Replies(answers, len(stage), max(options.responses, options.responses_code)) as replies:
        asks = (ask for ask in _requests(stage, options) if not replies.has(ask.row, ask.index))
        (tally,) = ask_all([(endpoint, asks, replies.add)], sampling)
        for ask, why in tally.refused:
            replies.refuse(ask, str(why))
        context.notes.append(f"{endpoint.shown}: {len(replies):,} responses")
    if tally.complaint:
        context.missing.append(f"difficulty by {tally.complaint}")
    grades = Grades.none(len(stage))
    for found, verdict, _ in verdicts_on(answers, verdicts, jobs=context.jobs, timeout_s=options.grading_s):
        row = int(found["id"].partition(":")[0])
        if "refused" in found:
            grades.refused[row] += 1
        else:
            grades.count(row, verdict)
    return grades


def _requests(stage: Stage, options: Difficulty) -> Iterator[Ask]:
    for row, found in _problems(stage):
        for index in range(options.due(found["ability"])):
            seed = sampling_seed(options.seed, row, index)
            yield Ask(row=row, index=index, messages=found["messages"], seed=seed, beside=_truth(found))


def _problems(stage: Stage) -> Iterator[tuple[int, dict[str, Any]]]:
    row = 0
    for rows in stage.rows("ability", "messages", "ground_truth"):
        for found in rows:
            yield row, found
            row += 1


def _truth(row: dict[str, Any]) -> dict[str, Any]:
    """What ``leeway verify`` compares with."""
    return {"tests" if row["ability"] == "code" else "answer": json.loads(row["ground_truth"])}


# --- the rollout engines ---------------------------------------------------------------------------------------------


def _sampled(stage: Stage, options: Difficulty, context: Context) -> Grades:
    folder = context.folder / options.model
    if not (folder / "config.json").exists():
        raise DataError(
            f"difficulty: model = {options.model!r}: no folder of a model (looked for {folder}/config.json)"
        )
    grades = Grades.none(len(stage))
    for kind, responses in (("math", options.responses), ("code", options.responses_code)):
        problems, out = context.asked / f"{kind}.jsonl", context.asked / kind
        if _write_problems(stage, problems, code=kind == "code"):
            run = [f"{options.run}-{kind}"] if options.run else []
            _sample(problems, out, folder, responses, options, run)
            _count(out, responses, grades)
    missing = sum(
        options.due(found["ability"])
        > grades.solved[row] + grades.failed[row] + grades.errors[row] + grades.unread[row]
        for row, found in _problems(stage)
    )
    if missing:
        context.missing.append(f"difficulty by {options.name}: {missing:,} problems lack responses")
    return grades


def _write_problems(stage: Stage, path: Path, *, code: bool) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, count = path.with_suffix(".part"), 0
    with partial.open("w") as lines:
        for row, found in _problems(stage):
            if (found["ability"] == "code") == code:
                lines.write(json.dumps({"id": str(row), "prompt": found["messages"], **_truth(found)}) + "\n")
                count += 1
    partial.replace(path)
    return count


def _sample(problems: Path, out: Path, model: Path, responses: int, options: Difficulty, run: list[str]) -> None:
    """Run ``leeway sample``, which goes on where it was stopped."""
    command = [sys.executable, "-m", "leeway_rl.leeway.cli", "sample", str(problems), "--model", str(model)]
    command += ["--out", str(out), "--responses", str(responses), "--engine", options.engine]
    command += ["--temperature", str(options.temperature), "--top-p", str(options.top_p)]
    command += ["--max-tokens", str(options.max_tokens), "--seed", str(options.seed)]
    command += ["--workers", str(options.workers), *(word for name in run for word in ("--run", name))]
    done = subprocess.run(command, stdout=sys.stderr, check=False, env=os.environ)
    if done.returncode and not list(out.glob("*.parquet")):
        raise DataError(f"leeway sample {problems} ended with exit code {done.returncode}; see above")


def _count(out: Path, responses: int, grades: Grades) -> None:
    import pyarrow.parquet as pq

    seen = np.zeros((len(grades.solved), responses), dtype=bool)
    for file in sorted(out.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(columns=["id", "index", "verdict"]):
            for found in batch.to_pylist():
                row, index = int(found["id"]), found["index"]
                if not seen[row, index]:
                    seen[row, index] = True
                    grades.count(row, found["verdict"])
