"""A few groups of a run as text for people: ``samples.jsonl`` in the run's folder, with a JSON line for each group.

A few groups are drawn from every so many tickets (``metrics.samples_every``), by the run's seed and the tickets'
numbers, which are known before anything else is. So neither length nor reward nor speed selects, and refunded groups
are shown too.

A text is a list of segments, each with its writer, and rewards have names. So conversations of several turns and
rewards of several parts fit in. Readers pass over keys that they do not know.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .json_text import line_of_ours

FILE = "samples.jsonl"
PROMPT, POLICY, ENVIRONMENT = "prompt", "policy", "environment"
"""Writers of a segment: the data with the chat template around it; the policy, token by token; or an environment, with
the chat template around what it says."""
TRAINED = "trained"
TOTAL = "reward"
"""The name of the reward that a response was trained by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of text by one writer."""

    by: str
    """``PROMPT``, ``POLICY`` or ``ENVIRONMENT``."""
    text: str
    """The text, special tokens included."""
    tokens: int
    left_out: int = 0
    """Characters that were left out of the middle, because the file is bounded. The text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledResponse:
    """One response with its rewards and verdict."""

    index: int
    """The response's number in the group, from 0."""
    segments: tuple[Segment, ...]
    finished: bool
    """Whether the response ended by an end token, or the environment ended the conversation."""
    rewards: dict[str, float]
    """Rewards by name; ``TOTAL`` is the one that it was trained by."""
    verdict: str
    reason: str
    """The grader's reason in a sentence; may be empty."""
    staleness: dict[str, float]
    """Staleness at ``Sample.step``, in versions: ``mean`` over the tokens and ``max``."""

    @property
    def reward(self) -> float:
        """The reward that the response was trained by."""
        return self.rewards[TOTAL]

    @property
    def tokens(self) -> int:
        """Sampled tokens."""
        return sum(segment.tokens for segment in self.segments if segment.by != ENVIRONMENT)

    @property
    def turns(self) -> int:
        """Turns of the policy."""
        return sum(segment.by != ENVIRONMENT for segment in self.segments)

    @property
    def observed(self) -> int:
        """Tokens that the environment wrote."""
        return sum(segment.tokens for segment in self.segments if segment.by == ENVIRONMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One group."""

    step: int
    """The training step that took it, or that was due when it was refunded."""
    outcome: str
    """``trained``, or the reason of the refund."""
    ticket: int
    incarnation: int
    stage: int
    prompt_id: str
    """Where the prompt came from: ``<source>:<row>``."""
    ability: str
    gold: tuple[str, ...]
    """The golds that the grader compared with; long ones are cut."""
    prompt: tuple[Segment, ...]
    responses: tuple[SampledResponse, ...]
    at: float
    """Unix time at which the line was written."""
    place: int
    """The lot of tickets that the sample was drawn from; the first lot is 0."""
    thinned: int = 1
    """One lot out of so many is kept so far."""


def line_of(sample: Sample) -> str:
    """The sample's line in the file. It is ASCII, so that printing the raw file cannot steer a terminal."""
    return json.dumps(asdict(sample)) + "\n"


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples in a file, in the order in which their groups left; none if there is no file. Torn lines are passed
    over."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for text in file:
            if (found := sample_in(text)) is not None:
                yield found


def sample_in(line: str | bytes) -> Sample | None:
    """The sample in one line of the file; None where the line is torn."""
    try:
        return _sample(line_of_ours(line))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _sample(values: dict[str, Any]) -> Sample:
    prompt = tuple(Segment(**_known(Segment, each)) for each in values["prompt"])
    responses = tuple(_response(each) for each in values["responses"])
    rest = {"step": int(values["step"]), "prompt": prompt, "responses": responses, "gold": tuple(values["gold"])}
    return Sample(**_known(Sample, values) | rest)


def _response(values: dict[str, Any]) -> SampledResponse:
    segments = tuple(Segment(**_known(Segment, each)) for each in values["segments"])
    rewards = {name: float(reward) for name, reward in values["rewards"].items()}
    if TOTAL not in rewards:
        raise KeyError(TOTAL)
    return SampledResponse(**_known(SampledResponse, values) | {"segments": segments, "rewards": rewards})


def _known(kind: Any, values: dict[str, Any]) -> dict[str, Any]:
    return {field.name: values[field.name] for field in fields(kind) if field.name in values}
