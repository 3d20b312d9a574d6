"""The report of a sweep, made from its folder alone, whether all of its points are finished or not.

::

    runs/POINT/… ──▶ sweep.csv  steps.csv  sweep.png  frontier.png  report.html
"""

from collections.abc import Callable
from pathlib import Path

from ...common.files import write_whole
from ..reporting import page
from .grid import Setting
from .intervals import Interval
from .sweepdata import LEARNING, MEASURES, SPEED, Measure, Sweep, findings, write_tables

Cells = list[tuple[str, list[tuple[str, bool]]]]
"""Rows of a table: (setting, [(text, whether its interval shows a difference)])."""


def write_report(sweep: Sweep, folder: Path, base_text: str) -> Path:
    """Write tables, pictures and the page into ``folder``, and return the page's path. ``base_text`` is the
    configuration that all settings share, as TOML."""
    write_tables(sweep, folder)
    with page.report_extra():
        from . import sweep_pictures

        whole, frontier = sweep_pictures.draw(sweep), sweep_pictures.draw_frontier(sweep)
        write_whole(folder / "sweep.png", whole)
        write_whole(folder / "frontier.png", frontier)
        text = page.render(
            BODY,
            title=sweep.name,
            width="80rem",
            sweep=sweep,
            findings=findings(sweep),
            tables=_tables(sweep),
            measures=MEASURES,
            whole=page.embedded(whole),
            frontier=page.embedded(frontier),
            base_text=base_text,
        )
    out = folder / "report.html"
    write_whole(out, text)
    return out


def _tables(sweep: Sweep) -> list[tuple[str, tuple[Measure, ...], Cells]]:
    first = sweep.settings[0]
    made: list[tuple[str, tuple[Measure, ...], Cells]] = []
    for name, measures in (("Speed and age", SPEED), ("Learning", LEARNING)):
        made.append((f"{name}: mean over the seeds", measures, _rows(sweep.settings, measures, sweep.mean)))
        if len(sweep.settings) > 1:
            gains = _rows(
                sweep.settings[1:], measures, lambda setting, key: sweep.gain(setting, first, key), signed=True
            )
            made.append((f"{name}: difference to {first.label}, seed by seed", measures, gains))
    return made


def _rows(
    settings: list[Setting],
    measures: tuple[Measure, ...],
    value: Callable[[Setting, str], Interval],
    *,
    signed: bool = False,
) -> Cells:
    rows = []
    for setting in settings:
        found = [(value(setting, measure.key), measure.digits) for measure in measures]
        cells = [(each.text(digits, signed=signed), signed and each.sign != 0) for each, digits in found]
        rows.append((setting.label or "all", cells))
    return rows


BODY = """\
{% block body %}
<h1>{{ sweep.name }}</h1>
{{ sweep.settings | length }} settings, {{ sweep.seeds | length }} seed{{ 's' if sweep.seeds | length > 1 }},
{{ sweep.runs | length }} runs
{% if sweep.missing %}
<p class="missing">Not finished when this was written, and not in it: {{ sweep.missing | join(', ') }}.</p>
{% endif %}
<h2>What it shows</h2>
<ul>
{% for sentence in findings %}
<li>{{ sentence }}</li>
{% endfor %}
</ul>
<p>A difference is called shown where its 95 % interval over the seeds (paired, Student's t) leaves out 0. Each interval
stands by itself: of many comparisons, one in twenty shows a difference that is not there.</p>
<img src="{{ frontier }}" alt="Reward over throughput by setting, coloured by entropy">
<img src="{{ whole }}" alt="Throughput, staleness, entropy and reward by setting, and their courses">
{% for name, measures, rows in tables %}
<h2>{{ name }}</h2>
<table class="wide">
<tr><th></th>{% for measure in measures %}<th scope="col">{{ measure.title }}</th>{% endfor %}</tr>
{% for label, cells in rows %}
<tr><th scope="row">{{ label }}</th>
{% for text, shown in cells %}<td{{ ' class=shown' if shown }}>{{ text }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endfor %}
<p>Bold: shown.</p>
<h2>How to read it</h2>
<dl>
{% for measure in measures %}
<dt>{{ measure.title }} (<code>{{ measure.key }}</code>)</dt><dd>{{ measure.meaning }}</dd>
{% endfor %}
<dt>equal samples, equal time</dt>
<dd>Runs of one seed are compared where each of them has come: as many groups trained, as many responses generated, or
the same time, that at which the fastest came to its last η steps. Time counts from the first training step, without the
wait for the first batch, in which engines start. The reward there is the mean of the last third before. It is what the
rollout workers' responses got, so where data is n versions old it is that of a policy n versions back.</dd>
<dt>frontier</dt>
<dd>A setting is dominated where another is shown to be better in throughput, reward at equal samples or entropy, and is
shown to be worse in none of them. Filled marks are not dominated. Of settings that differ in the first key alone, the
line joins those that no other beats in both throughput and reward by the means, shown or not. Whether more entropy is
worth something is for the reader: above its target it is not.</dd>
</dl>
<p>Every run's numbers: <code>sweep.csv</code>; every step's: <code>steps.csv</code>.</p>
<h2>What the settings share</h2>
<pre>{{ base_text }}</pre>
{% endblock %}
"""
