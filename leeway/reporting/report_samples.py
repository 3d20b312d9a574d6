"""The report's table of samples: what a few groups asked and answered, over the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...common.samples import FILE, Sample, SampledResponse, Segment, read_samples
from ...common.texts import visible
from ..looking.samples import cut, heading, title

GROUPS = 4
SHOWN = 800
"""The most characters of a text that are shown."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A text with a line above it."""

    heading: str
    segments: list[tuple[str, str]]
    """(who wrote it, the text) of each segment."""


@dataclass(frozen=True, slots=True)
class Group:
    """One row of the table."""

    title: str
    prompt: Piece
    responses: list[Piece]


def groups_of(folder: Path) -> list[Group]:
    """At most ``GROUPS`` of the run's samples, spread evenly from the first to the last. Each has its responses of the
    highest and of the lowest reward (the first among equals). Empty where the run has no samples."""
    every = list(read_samples(folder / FILE))
    count = min(GROUPS, len(every))
    places = [round(place * (len(every) - 1) / max(1, count - 1)) for place in range(count)]
    return [_group(every[place]) for place in places]


def _group(sample: Sample) -> Group:
    gold = cut(visible(" or ".join(sample.gold)), SHOWN // 4)
    return Group(
        title=title(sample),
        prompt=Piece(f"gold: {gold}", _segments(sample.prompt)),
        responses=[Piece(heading(each), _segments(each.segments)) for each in _extremes(sample.responses)],
    )


def _extremes(responses: Sequence[SampledResponse]) -> list[SampledResponse]:
    best, worst = (choose(responses, key=lambda each: each.reward) for choose in (max, min))
    return [best] if best.reward == worst.reward else [best, worst]


def _segments(segments: Sequence[Segment]) -> list[tuple[str, str]]:
    return [(segment.by, cut(visible(segment.text), SHOWN)) for segment in segments]


TEMPLATE = """\
{% if samples %}
<h2>Samples</h2>
<p>Groups from the first to the last that samples.jsonl has, each with its response of the highest and of the lowest
reward. What the file has was drawn by the run's seed alone. <code>leeway samples RUN</code> shows all of it.</p>
<table class="samples">
{% for group in samples %}
<tr><th scope="rowgroup">{{ group.title }}</th></tr>
{% for piece in [group.prompt] + group.responses %}
<tr><td>{{ piece.heading }}
{% for by, text in piece.segments %}
{% if piece.segments | length > 1 %}<small>{{ by }}</small>{% endif %}
<pre title="{{ by }}">{{ text }}</pre>
{% endfor %}
</td></tr>
{% endfor %}
{% endfor %}
</table>
{% endif %}
"""
