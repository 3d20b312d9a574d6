"""Writes ``samples.jsonl`` off the critical path: the intake hands over references, and a thread makes text of them.

The file is a view. What cannot be written, because the disk or the queue is full, is left out with a warning, and the
run goes on.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.appending import Appending
from ..common.config import Config, expand
from ..common.files import write_whole
from ..common.preflight.tokens import load_tokenizer
from ..common.samples import FILE, PROMPT, TOTAL, Sample, SampledResponse, Segment, line_of, read_samples
from ..common.texts import middle_cut
from ..common.turns import stretches_of
from ..common.types import Verdict
from .packing import ScoredGroup

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

WAITING = 64
"""How many groups may wait to be written."""
CLOSE_S = 10.0
"""How long a learner that ends waits for those groups."""
GOLDS, GOLD_CHARACTERS = 4, 500
LEAST_CHARACTERS = 16
_STREAM = 1
"""Makes the draw independent of the curriculum's permutations, which are seeded by (seed, number) too."""


@dataclass(frozen=True, slots=True)
class _Graded:
    group: ScoredGroup
    verdicts: tuple[Verdict, ...]
    place: int


class Samples:
    """Chooses and writes the samples of a run, on rank 0. The intake calls ``graded`` and ``left`` under its lock."""

    def __init__(self, folder: Path, config: Config, *, from_step: int) -> None:
        """Write into ``folder``. Samples of steps from ``from_step`` on are removed, as the metrics are, since a resume
        has rolled those steps back."""
        self._metrics, self._model, self._seed = config.metrics, config.model.path, config.flow.seed
        self._batches = [view.train.groups_per_step for view in config.views()]
        self._graded: dict[int, _Graded] = {}
        self._waiting: queue.Queue[tuple[_Graded, int, str] | None] = queue.Queue(WAITING)
        self._file = SampleFile(folder / FILE, config.metrics.samples_bytes, from_step=from_step)
        self._troubled = False
        self._thread = threading.Thread(target=self._write_loop, name="samples", daemon=True)
        self._thread.start()

    def graded(self, group: ScoredGroup, verdicts: tuple[Verdict, ...]) -> None:
        """Take in a group that has come in graded. It is remembered where its ticket is one of those that are shown."""
        number, batch = group.ticket.ticket, self._batches[group.ticket.stage]
        lot = self._metrics.samples_every * batch
        place = number // lot
        shown = drawn(self._seed, place, lot, batch, self._metrics.samples_groups)
        if place % self._file.thinned == 0 and number in shown:
            self._graded[number] = _Graded(group, verdicts, place)

    def left(self, ticket: int, step: int, outcome: str) -> None:
        """Note that a ticket is not live any more: it was trained in ``step``, or refunded when ``step`` was due."""
        found = self._graded.pop(ticket, None)
        if found is None:
            return
        try:
            self._waiting.put_nowait((found, step, outcome))
        except queue.Full:
            self._warn("samples come faster than they can be written: some are left out")

    def close(self) -> None:
        """Write what still waits, for ``CLOSE_S`` seconds at most."""
        try:
            self._waiting.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        self._thread.join(CLOSE_S)

    def _write_loop(self) -> None:
        """Consumes groups that have left and produces lines of the file. A thread that dies here loses samples, and
        nothing that the run depends on."""
        while (item := self._waiting.get()) is not None:
            graded, step, outcome = item
            try:
                self._write(graded, step, outcome)
            except Exception as error:  # no error here is a reason to end a run
                self._warn(f"{self._file.path}: a sample cannot be written, and the run goes on without: {error}")

    def _write(self, graded: _Graded, step: int, outcome: str) -> None:
        sample = sample_of(
            graded.group, graded.verdicts, self._tokenizer, step=step, outcome=outcome, place=graded.place
        )
        # The first lot and the one under way must fit into the file, however much it is thinned.
        line = bounded(sample, self._metrics.samples_bytes // (4 * self._metrics.samples_groups))
        if line is None or not self._file.write(line):
            self._warn(f"{self._file.path}: ticket {sample.ticket} is too large for metrics.samples_bytes")
        else:
            self._troubled = False

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(expand(self._model))

    def _warn(self, words: str) -> None:
        if not self._troubled:
            log.warning("%s", words)
        self._troubled = True


class SampleFile:
    """The file of samples, never larger than its limit. Where a line would make it larger, every second lot is removed,
    and from then on half as many lots are kept. So the samples stay spread evenly over the run."""

    def __init__(self, path: Path, limit: int, *, from_step: int) -> None:
        self.path, self._limit = path, limit
        self.thinned = 1
        """One of so many lots is kept."""
        self._size = 0
        kept = list(read_samples(path))
        self.thinned = max((sample.thinned for sample in kept), default=1)
        try:
            if path.exists():
                self._rewrite([sample for sample in kept if sample.step < from_step])
        except OSError as error:
            log.warning("%s cannot be written: %s", path, error)

    def write(self, sample: Sample) -> bool:
        """Append ``sample`` where its lot is still kept. Returns whether there is room for it."""
        line = line_of(replace(sample, thinned=self.thinned))  # all lines are ASCII, so a character is a byte
        while self._size + len(line) > self._limit:
            kept = list(read_samples(self.path))
            if all(each.place == 0 for each in kept):
                return False
            self.thinned *= 2
            self._rewrite([each for each in kept if each.place % self.thinned == 0])
            line = line_of(replace(sample, thinned=self.thinned))
        if sample.place % self.thinned == 0:
            with closing(Appending(self.path)) as file:  # it is opened each time, because ``_rewrite`` replaces it
                file.append(line)
            self._size += len(line)
        return True

    def _rewrite(self, samples: Sequence[Sample]) -> None:
        text = "".join(line_of(replace(each, thinned=self.thinned)) for each in samples)
        write_whole(self.path, text)
        self._size = len(text)


@lru_cache(maxsize=16)
def drawn(seed: int, place: int, lot: int, batch: int, count: int) -> frozenset[int]:
    """The tickets of lot number ``place`` that are shown: ``count`` of its first ``batch`` tickets (as many as a step
    takes), drawn by the run's seed alone. The very first tickets would not be typical: they come first in their batch,
    and are not as old as the others."""
    chosen = np.random.default_rng([seed, place, _STREAM]).choice(batch, min(count, batch), replace=False)
    return frozenset((place * lot + chosen).tolist())


def sample_of(
    group: ScoredGroup,
    verdicts: Sequence[Verdict],
    tokenizer: PreTrainedTokenizerBase,
    *,
    step: int,
    outcome: str,
    place: int,
) -> Sample:
    """The group as text. Its staleness is counted at ``step``."""
    ticket, responses = group.ticket, group.responses

    def segment(by: str, tokens: np.ndarray) -> Segment:
        text = str(tokenizer.decode(tokens.tolist(), skip_special_tokens=False))
        return Segment(by=by, text=text, tokens=len(tokens))

    return Sample(
        step=step,
        outcome=outcome,
        ticket=ticket.ticket,
        incarnation=ticket.incarnation,
        stage=ticket.stage,
        prompt_id=ticket.prompt_id,
        ability=ticket.ability,
        gold=tuple(shortened(gold, GOLD_CHARACTERS)[0] for gold in ticket.ground_truth[:GOLDS]),
        prompt=(segment(PROMPT, ticket.prompt_tokens_P),),
        responses=tuple(
            SampledResponse(
                index=index,
                segments=tuple(segment(each.by, each.tokens) for each in stretches),
                finished=bool(responses.finished_S[index]),
                rewards={
                    TOTAL: float(group.rewards_S[index]),
                    **{part.name: part.value for part in verdicts[index].parts},
                },
                verdict=verdicts[index].kind.value,
                reason=verdicts[index].reason,
                staleness=staleness(responses.spans, index, step),
            )
            for index, stretches in enumerate(stretches_of(responses))
        ),
        at=time.time(),
        place=place,
    )


def staleness(spans: np.ndarray, index: int, step: int) -> dict[str, float]:
    """Mean and maximum over the sampled tokens of response ``index`` in a step that starts from version ``step``; none
    is below 0."""
    _, versions, starts, ends = spans[spans[:, 0] == index].astype(np.int64).T
    ages = np.maximum(step - versions, 0)
    return {"mean": float(np.average(ages, weights=ends - starts)), "max": float(ages.max())}


def bounded(sample: Sample, most: int) -> Sample | None:
    """The sample with its texts cut in the middle, so that its line has at most ``most`` bytes. None where that is
    impossible."""
    found, longest = sample, most
    while len(line_of(found)) > most:
        longest //= 2
        if longest < LEAST_CHARACTERS:
            return None
        responses = (
            replace(each, segments=tuple(_cut(segment, longest) for segment in each.segments))
            for each in sample.responses
        )
        found = replace(sample, prompt=tuple(_cut(each, longest) for each in sample.prompt), responses=tuple(responses))
    return found


def _cut(segment: Segment, longest: int) -> Segment:
    text, left_out = shortened(segment.text, longest)
    return replace(segment, text=text, left_out=left_out)


def shortened(text: str, longest: int) -> tuple[str, int]:
    """``text``, without its middle where it has more than ``longest`` characters, and how many characters are left
    out."""
    head, left_out, end = middle_cut(text, longest)
    return (f"{head}[… {left_out:,} characters left out …]{end}" if left_out else text), left_out
