"""What is new in a run's folder since the last look: training steps, turns of the dial, samples.

A tracker that was away goes on where it stopped, by its ``Mark``. After a rollback the learner writes some steps again;
they are new here too, and are sent again under the same step.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...common.errors import DataError
from ...common.files import write_whole
from ...common.json_text import line_of_ours
from ...common.metrics import measured
from ...common.samples import FILE, PROMPT, TOTAL, Sample, Segment, read_samples
from ...common.tail import Growing, whole_lines
from ...common.texts import visible
from ...common.wording import counted
from ..reporting.rundata import turned_to
from .charts import AXES, charted


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a tracker has come with a run."""

    id: str = ""
    """What the tracker calls the run; empty before it knows of it."""
    rows: int = 0
    """Steps and tables sent so far, those that a rollback repeated included."""
    step: int = -1
    """The training step that was sent last."""
    at: float = 0.0
    """Unix time at which that step ended."""
    ledger: int = 0
    """Bytes of the ledger that were read."""
    sampled_at: float = 0.0
    """Unix time at which the newest sample that was sent was written."""


@dataclass(frozen=True, slots=True)
class Step:
    """A training step's measurements."""

    step: int
    at: float
    """Unix time, in seconds."""
    numbers: dict[str, float]
    """By their names in a tracker."""
    words: dict[str, str]
    """Metrics that are no numbers (the policy of overflow), by their names in a tracker."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that an operator did, or that happened to the run, for a note beside the curves."""

    step: int
    """The first training step that it concerns."""
    name: str
    """A live control, or ``resumed`` or ``stage``."""
    title: str
    text: str


COLUMNS = (
    *("step", "outcome", "ticket", "prompt_id", "prompt", "gold", "response"),
    *("reward", "rewards", "verdict", "reason", "staleness_mean", "staleness_max", "tokens", "finished"),
)
"""Of a table of samples: a row is a response."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The responses of a group that ``samples.jsonl`` has."""

    step: int
    ticket: int
    rows: list[list[Any]]
    """A row for each response; its values are those of ``COLUMNS``, numbers, texts and truth values."""


News = Step | Turn | Samples


def read_mark(path: Path) -> Mark:
    """The mark in a file; that of a beginning where there is none. ``DataError`` where the file holds none."""
    try:
        return Mark(**json.loads(path.read_bytes())) if path.exists() else Mark()
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path}: it does not say how far the tracker has come; without it the run is sent from the beginning"
        ) from error


def write_mark(path: Path, mark: Mark) -> None:
    """Keep the mark in a file."""
    path.parent.mkdir(exist_ok=True)
    write_whole(path, json.dumps(asdict(mark)) + "\n")


class Folder:
    """A run's folder, for a reader that looks again and again, and closes it in the end."""

    def __init__(self, path: Path) -> None:
        """The run in ``path``, whose files need not be there yet."""
        self._steps = Growing(path / "metrics.jsonl")
        self._ledger, self._samples = path / "ledger.jsonl", path / FILE
        self._sampled: tuple[int, ...] = ()
        """What tells whether the samples have changed since the last look."""

    def news(self, mark: Mark) -> Iterator[tuple[News | None, Mark]]:
        """What is new since ``mark``, each with the mark after it: first turns of the dial, then steps, then samples.
        None stands where only the mark has moved."""
        newest = mark
        for look in (self._turns, self._new_steps, self._new_samples):
            for news, reached in look(newest):
                newest = reached
                yield news, newest

    def close(self) -> None:
        """Give the file back."""
        self._steps.close()

    def _new_steps(self, mark: Mark) -> Iterator[tuple[Step, Mark]]:
        """A learner that resumes writes the file anew, without the steps that it will make again. These have a later
        time than what was sent, and are therefore new; those before them are not."""
        self._steps.renewed()
        for text in self._steps.lines():
            record = line_of_ours(text)
            if record["step"] > mark.step or record["at"] > mark.at:
                mark = replace(mark, rows=mark.rows + 1, step=record["step"], at=record["at"])
                yield step_of(record), mark

    def _turns(self, mark: Mark) -> Iterator[tuple[Turn | None, Mark]]:
        """The ledger may have millions of lines, so only those that may be meant are parsed."""
        try:
            file = self._ledger.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(mark.ledger)
            for text in whole_lines(file):
                mark = replace(mark, ledger=mark.ledger + len(text))
                if any(word in text for word in (b'"control"', b'"started"', b'"stage"')):
                    yield turn_of(line_of_ours(text)), mark
        yield None, mark

    def _new_samples(self, mark: Mark) -> Iterator[tuple[Samples, Mark]]:
        """The learner writes the file anew where it thins it out, so samples are told by the time of their writing."""
        try:
            found = self._samples.stat()
        except FileNotFoundError:
            return
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp == self._sampled:
            return
        since = mark.sampled_at
        for sample in read_samples(self._samples):
            if sample.at > since:
                mark = replace(mark, rows=mark.rows + 1, sampled_at=max(mark.sampled_at, sample.at))
                yield samples_of(sample), mark
        self._sampled = stamp


def step_of(record: dict[str, Any]) -> Step:
    """A line of ``metrics.jsonl`` as it is sent. Pure."""
    places = {f"{AXES}/{name}": float(record[name]) for name in ("version", "stage") if name in record}
    numbers = {charted(name): float(value) for name, value in measured(record).items()} | places
    words = {charted(name): value for name, value in record.items() if isinstance(value, str) and name != "role"}
    return Step(record["step"], record["at"], numbers, words)


def turn_of(line: dict[str, Any]) -> Turn | None:
    """A line of the ledger as a note; None where it is not worth one. Pure."""
    match line["event"]:
        case "control":
            by = line.get("by", "operator")
            text = f"{line['name']}: {line['previous']} → {line['value']}, by the {by}"
            return Turn(line["version"], line["name"], turned_to(line["name"], line["value"]), text)
        case "started" if line["version"]:
            text = f"learner {line['incarnation']} goes on from the checkpoint of step {line['version']}"
            return Turn(line["version"], "resumed", f"resumed at step {line['version']}", text)
        case "stage" if line["stage"]:
            text = f"tickets of stage {line['stage']} are issued, from {counted(line['prompts'], 'prompt')}"
            return Turn(line["version"], "stage", f"stage {line['stage']}", text)
    return None


def samples_of(sample: Sample) -> Samples:
    """A group of ``samples.jsonl`` as rows of a table. Pure."""
    group = [sample.step, sample.outcome, sample.ticket, visible(sample.prompt_id), _text(sample.prompt)]
    group.append(visible(" or ".join(sample.gold)))
    rows = [
        [
            *(*group, _text(each.segments), each.reward),
            json.dumps({name: value for name, value in each.rewards.items() if name != TOTAL}),
            *(each.verdict, visible(each.reason), float(each.staleness["mean"]), float(each.staleness["max"])),
            *(each.tokens, each.finished),
        ]
        for each in sample.responses
    ]
    return Samples(sample.step, sample.ticket, rows)


def _text(segments: tuple[Segment, ...]) -> str:
    """The segments' text; where there are several writers, each part says whose it is."""
    if len(segments) == 1 or all(each.by == PROMPT for each in segments):
        return visible("".join(each.text for each in segments))
    return "\n".join(f"[{each.by}] {visible(each.text)}" for each in segments)
