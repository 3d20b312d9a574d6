"""Asks models about a problem's wording: any number of judges, several votes each, four criteria (report 6.3).

A judge that answers nonsense has cast no vote: its answer says nothing about the problem.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..common.wording import counted
from .dataset import Dataset, Judgement
from .endpoint import Answer, Ask, Endpoint, Tally, ask_all, sampling_seed
from .replies import Replies
from .step import Context, Options
from .votes import ASKING, CRITERIA, FORM, VOTES, settled, vote_in


class JudgeModel(BaseModel):
    """One judge."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = Field(pattern=r"^[\w.-]+$")
    """The judge's name, which stands beside its votes."""
    endpoint: str
    """Address of an OpenAI-compatible endpoint, up to and with /v1."""
    model: str
    """The model's name at the endpoint."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the endpoint's key."""

    @property
    def file(self) -> str:
        """The file of the judge's answers. Another model under the same name has another file."""
        return f"{self.name}.{hashlib.sha256(self.model.encode()).hexdigest()[:8]}.jsonl"


class Quality(Options):
    """Options of ``quality``."""

    judges: tuple[JudgeModel, ...] = Field(min_length=1)
    """The judges, each with a name, an endpoint and a model."""
    votes: int = Field(default=16, ge=1)
    """Votes of each judge on each problem."""
    least: int = Field(default=9, ge=1)
    """A problem is kept if it gets at least so many votes of all judges together."""
    abilities: tuple[str, ...] = ("math",)
    """Only rows of these abilities are judged; the others are kept."""
    temperature: float = Field(default=1.0, ge=0)
    """The judges' sampling temperature."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest answer of a judge, in tokens."""
    structured: bool = False
    """Have the endpoint enforce the form of a vote (JSON schema)."""
    seed: int = 0
    """Seed of the judges' sampling."""
    concurrency: int = Field(default=64, ge=1)
    """Most requests under way at each endpoint."""
    timeout_s: float = Field(default=600.0, gt=0)
    """Seconds to wait for one answer."""
    tries: int = Field(default=6, ge=1)
    """How often a request that fails is tried in all."""

    CHANGE_NO_ROW: ClassVar = frozenset({"concurrency", "timeout_s", "tries"})
    CHANGE_NO_QUESTION: ClassVar = frozenset({"least", "votes", "judges"})
    """Each judge has a file of its own, so more votes and further judges are asked without losing earlier answers."""

    @model_validator(mode="after")
    def _check(self) -> Quality:
        names = [judge.name for judge in self.judges]
        if len(set(names)) < len(names):
            raise ValueError(f"judges have different names, found {', '.join(names)}")
        if self.least > self.votes * len(names):
            raise ValueError(f"least = {self.least}, and there are {self.votes * len(names)} votes in all")
        return self

    def plain(self, *, questions: bool = False) -> dict[str, Any]:
        judges = {} if questions else {"judges": [(judge.name, judge.model) for judge in self.judges]}
        return super().plain(questions=questions) | judges | {"asking": ASKING, "criteria": CRITERIA}


def quality(dataset: Dataset, options: Quality, context: Context) -> Iterator[list[Judgement]]:
    """Drop problems that judges find unclear, incomplete, badly formatted or mixed with other matter."""
    with ExitStack() as stack:
        files = {
            judge.name: stack.enter_context(closing(Replies(context.asked / judge.file, len(dataset), options.votes)))
            for judge in options.judges
        }
        _ask(dataset, options, context, files)
        writer = stack.enter_context(pq.ParquetWriter(context.asked / "votes.parquet", VOTES, compression="zstd"))
        totals = {name: Counter[str]() for name in files}
        row = 0
        for rows in dataset.rows("ability", "source", "file", "row"):
            judged: list[Judgement] = []
            votes: list[dict[str, Any]] = []
            for found in rows:
                if found["ability"] in options.abilities:
                    cast = list(_votes(row, options.votes, files))
                    votes += [{**found, **vote} for vote in cast]
                    judged.append(settled(_counted(cast, totals), options.least, _faults(cast)))
                else:
                    judged.append(None)
                row += 1
            writer.write_batch(pa.RecordBatch.from_pylist(votes, VOTES))
            yield judged
        context.notes += [_summary(name, total) for name, total in totals.items()]


def _ask(dataset: Dataset, options: Quality, context: Context, files: dict[str, Replies]) -> None:
    """Ask for every vote that is still missing."""
    sampling: dict[str, Any] = {"temperature": options.temperature, "max_tokens": options.max_tokens}
    if options.structured:
        sampling["response_format"] = FORM
    jobs: list[tuple[Endpoint, Iterator[Ask], Callable[[Ask, Answer], None]]] = []
    for judge in options.judges:
        endpoint = Endpoint(
            name=judge.name,
            url=judge.endpoint,
            model=judge.model,
            key_variable=judge.key_variable,
            concurrency=options.concurrency,
            timeout_s=options.timeout_s,
            tries=options.tries,
        )
        jobs.append((endpoint, _requests(dataset, options, judge.name, files[judge.name]), files[judge.name].add))
    tallies: list[Tally] = ask_all(jobs, sampling)
    for tally in tallies:
        for ask, why in tally.refused:
            files[tally.endpoint.name].refuse(ask, str(why))
        if tally.complaint:
            context.missing.append(f"votes of {tally.complaint}")


def _requests(dataset: Dataset, options: Quality, judge: str, replies: Replies) -> Iterator[Ask]:
    criteria = "\n".join(f"- {name}: {meaning}" for name, meaning in CRITERIA.items())
    for row, found in enumerate(dataset.each("ability", "problem")):
        if found["ability"] in options.abilities:
            text = ASKING.format(criteria=criteria, problem=found["problem"])
            for index in range(options.votes):
                if not replies.has(row, index):
                    seed = sampling_seed(options.seed, judge, row, index)
                    yield Ask(row=row, index=index, messages=[{"role": "user", "content": text}], seed=seed)


def _votes(row: int, votes: int, files: dict[str, Replies]) -> Iterator[dict[str, Any]]:
    """The rows about one problem, in the schema ``VOTES``."""
    for judge, replies in files.items():
        for index in range(votes):
            found = replies.get(row, index)
            said: dict[str, Any] = {"judge": judge, "index": index}
            if found is None:
                yield said | {"vote": "missing"}
            elif "refused" in found:
                yield said | {"vote": "refused", "reason": found["refused"]}
            elif (vote := vote_in(found["response"])) is None:
                yield said | {"vote": "nonsense", "reason": found["response"][:1000]}
            else:
                yield said | {"vote": "keep" if vote.keep else "leave", "reason": vote.reason, **vote.met}


def _counted(votes: list[dict[str, Any]], totals: dict[str, Counter[str]]) -> Counter[str]:
    """Count the votes on one problem, and add each judge's votes to its total."""
    for vote in votes:
        totals[vote["judge"]][vote["vote"]] += 1
    return Counter(vote["vote"] for vote in votes)


def _faults(votes: list[dict[str, Any]]) -> str:
    """What the votes against a problem say: the criteria that are not met, and the first reason."""
    against = [vote for vote in votes if vote["vote"] == "leave"]
    unmet = Counter(name for vote in against for name in CRITERIA if not vote[name])
    named = ", ".join(f"{name} {number}" for name, number in unmet.most_common()) or "no criterion"
    return f"not met: {named}; {against[0]['judge']}: {against[0]['reason']}" if against else ""


def _summary(name: str, total: Counter[str]) -> str:
    votes = total["keep"] + total["leave"]
    share = f"{total['keep'] / votes:.0%} of them for the problem" if votes else "none"
    return (
        f"{name}: {counted(votes, 'vote')} of {total.total():,}, {share}; "
        f"{counted(total['nonsense'], 'answer')} without a vote, "
        f"{total['refused']:,} refused, {total['missing']:,} missing"
    )
