"""``leeway samples``: shows what a run's policy answered, and what reward each response was given."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import typer

from ...common.errors import ConfigError, DataError
from ...common.ledger import is_complete
from ...common.samples import FILE, TRAINED, Sample, SampledResponse, Segment, read_samples
from ...common.texts import middle_cut, visible
from ...common.types import VerdictKind
from ...common.wording import counted

SHOWN = 1200
"""Characters of a text that are shown, unless all of it is asked for."""
NEWEST = 2
"""Groups that are shown where nothing else is asked for."""
POLL_S = 1.0
VERDICTS = tuple(kind.value for kind in VerdictKind if kind is not VerdictKind.ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which samples somebody wants to see."""

    step: int | None = None
    verdict: str | None = None
    best: int | None = None
    worst: int | None = None
    last: int | None = None
    """How many of the newest groups."""


@dataclass(frozen=True, slots=True)
class Shown:
    """How they are shown."""

    full: bool = False
    as_json: bool = False


def show(folder: Path, asked: Asked, shown: Shown, *, follow: bool = False) -> None:
    """Print the samples of the run in ``folder``. ``DataError`` where there are none such as were asked for."""
    _refuse(asked, follow=follow)
    if follow:
        _follow(folder, asked, shown)
        return
    every = list(read_samples(folder / FILE))
    if not every:
        why = "it comes with the first graded groups" if folder.is_dir() else "there is no such run"
        raise DataError(f"{folder / FILE}: no samples there: {why}; metrics.samples_every = 0 keeps none")
    chosen = select(every, asked)
    if not chosen:
        steps = ", ".join(str(step) for step in sorted({sample.step for sample in every}))
        verdicts = ", ".join(sorted({each.verdict for sample in every for each in sample.responses}))
        raise DataError(
            f"{folder / FILE}: no sample is such; there are samples of steps {steps}, with the verdicts {verdicts} "
            "(metrics.samples_every says how often a run keeps some)"
        )
    for sample in chosen:
        typer.echo(text_of(sample, shown))


def _refuse(asked: Asked, *, follow: bool) -> None:
    if asked.verdict is not None and asked.verdict not in VERDICTS:
        raise ConfigError(f"--verdict {asked.verdict!r}: one of {', '.join(VERDICTS)} is right")
    if asked.best is not None and asked.worst is not None:
        raise ConfigError("--best and --worst are asked for one at a time")
    if follow and (asked.best, asked.worst, asked.last) != (None, None, None):
        raise ConfigError("--follow shows what comes; --best, --worst and --last choose among what is there")


def select(samples: Sequence[Sample], asked: Asked) -> list[Sample]:
    """Groups with those of their responses that were asked for, in the order of the file. With ``best`` the highest
    reward comes first, with ``worst`` the lowest, and of equal ones the newer. Pure."""
    found = [kept for sample in samples if (kept := _matching(sample, asked)) is not None]
    if asked.best is not None or asked.worst is not None:
        found = _extremes(found, asked)
    elif asked.last is not None:
        found = found[len(found) - min(asked.last, len(found)) :]
    elif asked.step is None and asked.verdict is None:
        found = found[-NEWEST:]
    return found


def _matching(sample: Sample, asked: Asked) -> Sample | None:
    if asked.step is not None and sample.step != asked.step:
        return None
    kept = tuple(each for each in sample.responses if asked.verdict in (None, each.verdict))
    return replace(sample, responses=kept) if kept else None


def _extremes(samples: Sequence[Sample], asked: Asked) -> list[Sample]:
    single = [replace(sample, responses=(each,)) for sample in reversed(samples) for each in sample.responses]
    single.sort(key=lambda sample: sample.responses[0].reward, reverse=asked.best is not None)
    return single[: asked.best if asked.best is not None else asked.worst]


def _follow(folder: Path, asked: Asked, shown: Shown) -> None:
    """Print what is there, then what comes until the run is complete. The learner may write the file anew, so we
    remember what was shown. The file may have many megabytes, so we read it only when it has changed."""
    seen: set[tuple[int, int]] = set()
    stamp: tuple[int, ...] | None = None
    while True:
        complete, before, stamp = is_complete(folder), stamp, _stamp(folder / FILE)
        if stamp != before:
            new = [sample for sample in read_samples(folder / FILE) if _key(sample) not in seen]
            for sample in select(new, replace(asked, last=len(new)) if seen else asked):
                typer.echo(text_of(sample, shown))
            seen.update(map(_key, new))
        if complete:
            return
        time.sleep(POLL_S)


def _stamp(path: Path) -> tuple[int, ...]:
    """A value that differs once a file has changed; empty where there is no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _key(sample: Sample) -> tuple[int, int]:
    return sample.ticket, sample.incarnation


def text_of(sample: Sample, shown: Shown) -> str:
    """The sample as text for a terminal, without anything that could steer the terminal; or as one JSON line."""
    if shown.as_json:
        return json.dumps(asdict(sample))
    return "\n".join(_lines(sample, shown))


def _lines(sample: Sample, shown: Shown) -> Iterator[str]:
    yield typer.style(title(sample), bold=True)
    for segment in sample.prompt:
        yield from _segment(segment, shown)
    yield f"gold ({visible(sample.ability)}): {visible(' or '.join(sample.gold))}"
    for each in sample.responses:
        yield typer.style(heading(each), fg="green" if each.reward > 0 else "red")
        for segment in each.segments:
            yield from _segment(segment, shown)
    yield ""


def title(sample: Sample) -> str:
    """One line on a group: when it was kept, what became of it, and where its prompt came from."""
    became = "trained" if sample.outcome == TRAINED else f"refunded, {sample.outcome}"
    return f"step {sample.step}, ticket {sample.ticket}: {became}; {visible(sample.prompt_id)}"


def heading(response: SampledResponse) -> str:
    """One line on a response: what it was given and why, and how old it was."""
    rewards = ", ".join(f"{visible(name)} {value:g}" for name, value in response.rewards.items())
    reason = f" ({visible(response.reason)})" if response.reason else ""
    ended = "" if response.finished else ", truncated"
    turns = f" in {asked} turns, {response.observed} observed" if (asked := response.turns) > 1 else ""
    age = f"staleness {response.staleness['mean']:.2f}, at most {response.staleness['max']:.0f}"
    given = f"{rewards}; {visible(response.verdict)}{reason}"
    return f"response {response.index}: {given}; {counted(response.tokens, 'token')}{turns}{ended}; {age}"


def _segment(segment: Segment, shown: Shown) -> Iterator[str]:
    yield f"  {visible(segment.by)}, {counted(segment.tokens, 'token')}:"
    text = visible(segment.text)
    if not shown.full:
        text = cut(text, SHOWN, "; --full shows them")
    for line in text.split("\n"):
        yield f"    {line}"


def cut(text: str, longest: int, more: str = "") -> str:
    """``text``, or, where it has more than ``longest`` characters, its beginning and end with a note between them that
    says how much is left out; ``more`` says how to see it."""
    head, left_out, end = middle_cut(text, longest)
    return f"{head}\n[… {left_out:,} characters left out here{more} …]\n{end}" if left_out else text
