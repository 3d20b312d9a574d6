"""A few groups of a run as text, for people: ``samples.jsonl`` in the run's folder, a JSON line a group.

Which groups: of every so many tickets (``metrics.samples_every``) a few, drawn by the run's seed and the tickets'
numbers, which are known before anything else is. So neither length nor reward nor speed selects, and groups that were
refunded are among them.

A text is a list of segments, each with who wrote it, and rewards have names: conversations of several turns and rewards
of several parts are more of the same. Readers pass over keys that they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .json_text import line_of_ours

FILE = "samples.jsonl"
PROMPT, POLICY = "prompt", "policy"
"""Who writes: the data with the chat template around it; the policy, token by token."""
TRAINED = "trained"
TOTAL = "reward"
"""The name, among a response's rewards, of the one that it was trained by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A piece of text by one writer."""

    by: str
    """``PROMPT`` or ``POLICY``."""
    text: str
    """Special tokens shown."""
    tokens: int
    left_out: int = 0
    """Characters left out of its middle, because the file is bounded; the text says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledResponse:
    """One response and what it was given."""

    index: int
    """Its number in the group, from 0."""
    segments: tuple[Segment, ...]
    finished: bool
    """Whether it came to its end by itself."""
    rewards: dict[str, float]
    """By name; ``TOTAL`` is what it was trained by."""
    verdict: str
    reason: str
    """The grader's, in a sentence; may be empty."""
    staleness: dict[str, float]
    """``mean`` over its tokens and ``max``, in versions, at ``Sample.step``."""

    @property
    def reward(self) -> float:
        """What it was trained by."""
        return self.rewards[TOTAL]

    @property
    def tokens(self) -> int:
        """Tokens of all its segments."""
        return sum(segment.tokens for segment in self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One group."""

    step: int
    """The training step that took it, or that was due when it was refunded."""
    outcome: str
    """``trained``, or why it was refunded."""
    ticket: int
    incarnation: int
    stage: int
    prompt_id: str
    """Where the prompt came from: ``<source>:<row>``."""
    ability: str
    gold: tuple[str, ...]
    """What the grader compared with; long ones cut."""
    prompt: tuple[Segment, ...]
    responses: tuple[SampledResponse, ...]
    at: float
    """Unix time at which it was written."""
    place: int
    """Its ticket's place among the lots that samples are drawn from: the first lot is 0."""
    thinned: int = 1
    """Of how many lots one is kept so far."""


def line_of(sample: Sample) -> str:
    """The sample's line in the file, in ASCII: whoever prints the file as it is steers no terminal with it."""
    return json.dumps(asdict(sample)) + "\n"


def read_samples(path: Path) -> Iterator[Sample]:
    """The samples in a file, in the order in which their groups left; none where there is no file. Lines that were
    torn are passed over."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        for text in file:
            try:
                yield _sample(line_of_ours(text))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue


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
