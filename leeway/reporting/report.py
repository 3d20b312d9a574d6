"""The report: one picture and one page about a run, made from its folder alone, whether it is finished or not.

::

    config.toml  metrics.jsonl  ledger.jsonl  workers.jsonl  samples.jsonl ──▶ report.png  report.html
"""

import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from ...common.files import write_whole
from ...common.wording import byte_size
from . import page, report_samples
from .rundata import RunData, ends, load, mean, passes_at, percent, sources

Rows = list[tuple[str, str]]


def write_report(folder: Path) -> Path:
    """Write ``report.png`` and ``report.html`` (self-contained) into the run's ``folder``; returns the page's path.

    Raises ``DataError`` where the folder has no usable ``metrics.jsonl``.
    """
    run = load(folder)
    with page.report_extra():
        from . import pictures

        picture, out = pictures.draw(run), folder / "report.html"
        write_whole(folder / "report.png", picture)
        evaluations = b""
        if run.evaluations:
            from .evaluation_pictures import over_versions

            evaluations = over_versions(run.evaluations)
            write_whole(folder / "evaluations.png", evaluations)
        text = page.render(
            BODY,
            title=run.name,
            run=run,
            picture=page.embedded(picture),
            evaluations=page.embedded(evaluations) if evaluations else None,
            sections=_sections(run),
            samples=report_samples.groups_of(folder),
            panels=pictures.panels_of(run),
        )
    write_whole(out, text)
    return out


def _sections(run: RunData) -> dict[str, Rows]:
    """The summary: rows of (what, how much) under their headings."""
    return {
        "Run": _run_rows(run),
        "Groups": _group_rows(run),
        "Sources": _source_rows(run),
        "Learning": _learning_rows(run),
        "Staleness": _staleness_rows(run),
        "Speed": _speed_rows(run),
        "Response lengths": _length_rows(run),
        "Evaluation": _evaluation_rows(run),
    }


def _run_rows(run: RunData) -> Rows:
    state = ", complete" if run.events("end") else ", not complete when this was written"
    rows = [("run", run.name), ("training steps", f"{len(run.steps)}{run.planned}{state if run.ledger else ''}")]
    rows += [("forked from", each.describe()) for each in run.lineage]
    if run.has("at"):
        started = datetime.fromtimestamp(np.nanmin(run.series("at") - run.series("time/step_s")), UTC)
        rows.append(("started", f"{started:%Y-%m-%d %H:%M} UTC"))
    rows.append(("time in training steps", str(timedelta(seconds=round(run.total("time/step_s"))))))
    if run.resumed_at():
        rows.append(("resumed at step", ", ".join(map(str, run.resumed_at()))))
    for number, (step, words) in enumerate(run.stage_changes(), start=2):
        rows.append((f"stage {number}, from step {step}", words))
    for turn in run.events("control"):
        rows.append((f"{turn['name']} turned", f"{turn['previous']} → {turn['value']} at version {turn['version']}"))
    return rows


def _group_rows(run: RunData) -> Rows:
    trained = run.total("batch/groups")
    size = f", {run.total('batch/responses'):,.0f} responses" if run.has("batch/responses") else ""
    rows = [("groups trained", f"{trained:,.0f}{size}, {run.total('batch/tokens'):,.0f} tokens")]
    if run.has("progress/updates"):
        rows.append(("optimizer updates", f"{run.series('progress/updates')[-1]:,.0f}"))
    by_step = {reason: int(np.nansum(counts)) for reason, counts in run.refunds().items()}
    orphaned = by_step.pop("orphaned", 0)
    # The ledger is the truth; the metrics, which stand in for it, lack what was refunded after the last step.
    refunds = run.refunded if run.ledger else Counter(by_step)
    for reason, count in refunds.most_common():
        rows.append((f"refunded: {reason}", f"{count:,} ({percent(count / (trained + refunds.total()))} of all)"))
    if not refunds:
        rows.append(("refunded", "none"))
    if orphaned:
        rows.append(("orphaned", f"{orphaned:,} (made for an earlier learner; their tickets were issued again)"))
    return rows


def _source_rows(run: RunData) -> Rows:
    """What came of each of several sources of prompts. Shares are of the groups that were graded."""
    rows, groups = [], run.total("generated/groups") if run.has("generated/groups") else 0.0
    for name in sources(run) if groups else ():
        own = run.total_of(f"source/{name}/share", "generated/groups")
        _, first, last = ends(run.series(f"source/{name}/reward_mean"))
        said = [f"{percent(own / groups)} of the groups", f"{run.total(f'source/{name}/trained'):,.0f} trained"]
        said += [f"{run.total(f'source/{name}/refunded'):,.0f} refunded"]
        rows.append((name, ", ".join([*said, f"reward {first:.3f} → {last:.3f}"])))
    return rows


def _learning_rows(run: RunData) -> Rows:
    rows = []
    for label, key in (
        ("reward", "reward/mean"),
        ("reward of the trained groups", "reward/trained_mean"),
        *((f"pass@{k} of the graded groups", f"solved/pass_at_{k}") for k in passes_at(run)),
        ("solved, and ended by itself", "solved/completed_share"),
        ("entropy (nats a token)", "entropy/policy"),
        ("entropy where pushed up", "entropy/policy/up"),
        ("entropy where pushed down", "entropy/policy/down"),
    ):
        if run.has(key):
            count, first, last = ends(run.series(key))
            steps = f"first and last {count} steps" if count > 1 else "first and last step"
            rows.append((f"{label}, {steps}", f"{first:.3f} → {last:.3f}"))
    if targets := run.turns(run.series("entropy/target")):
        rows.append(("entropy target", " → ".join(f"{target:.4g}" for _, target in targets)))
    if run.has("kl/reference"):
        known = run.series("kl/reference")
        rows.append(("KL from the initial model, last", f"{known[np.isfinite(known)][-1]:.3g} nats a token"))
    if run.has("policy/clip_fraction"):
        rows.append(("tokens clipped", percent(mean(run.series("policy/clip_fraction")))))
    return rows


def _staleness_rows(run: RunData) -> Rows:
    rows = []
    if run.has("staleness/head_mean", "staleness/head_max"):
        bounds = " → ".join(f"{bound:.0f}" for _, bound in run.turns(run.bounds())) or "not recorded"
        average, worst = mean(run.series("staleness/head_mean")), np.nanmax(run.series("staleness/head_max"))
        rows.append(("head staleness: mean, worst, bound", f"{average:.2f}, {worst:.0f}, {bounds}"))
        within, past = run.ages()
        rows.append(("groups past the bound of their step", f"{past.sum():,} of {(within + past).sum():,}"))
    if run.has("overflow/expired_tokens", "overflow/tokens_past_bound"):
        expired, past_tokens = run.total("overflow/expired_tokens"), run.total("overflow/tokens_past_bound")
        share = percent(expired / (run.total("batch/tokens") + expired))
        rows.append(("refunded for their age", f"{expired:,.0f} tokens, {share} of those trained and refunded so"))
        rows.append(
            ("past the bound in trained groups", f"{past_tokens:,.0f} tokens (mask leaves them out, soft trains)")
        )
    for label, key in (
        ("token staleness, mean", "staleness/token_mean"),
        ("token staleness in optimizer updates, mean", "staleness/token_updates_mean"),
        ("|log π − log μ|, mean over tokens", "logprob/abs_diff_mean"),
    ):
        if run.has(key):
            rows.append((label, f"{mean(run.series(key)):.3g}"))
    if run.has("logprob/ess"):
        rows.append(("effective sample size", f"{percent(mean(run.series('logprob/ess')))} of the tokens"))
    return rows


def _speed_rows(run: RunData) -> Rows:
    rows = [(f"{who}, tokens a second", f"{rate:,.0f}") for who, rate in run.rates().items() if not math.isnan(rate)]
    for who in ("learner", "rollout"):
        if run.has(key := f"throughput/{who}_tokens_per_s_per_gpu"):
            rows.append((f"{who}, tokens a second a device, median", f"{np.nanmedian(run.series(key)):,.4g}"))
    if run.has("throughput/mfu"):
        shares = (percent(mean(run.series(f"throughput/{name}"))) for name in ("mfu", "hfu"))
        rows.append(("MFU, and HFU, of the time that trains", ", ".join(shares)))
    if run.has("memory/device_peak_bytes"):
        most = (byte_size(np.nanmax(run.series(f"memory/{name}_peak_bytes"))) for name in ("device", "host"))
        rows.append(("learner's device and host, at most", ", ".join(most)))
    rows.append(("seconds a step, median", f"{np.median(run.series('time/step_s')):.3g}"))
    if run.has("time/wait_for_batch_s"):
        share = run.total("time/wait_for_batch_s") / run.total("time/step_s")
        rows.append(("learner's time spent waiting", percent(share)))
    if run.has("weights/payload_bytes", "weights/full_bytes"):
        full = run.series("weights/full_bytes")
        shares = run.series("weights/payload_bytes") / full
        text = f"mean {percent(mean(shares))}, median {percent(np.nanmedian(shares))}"
        rows.append(("bytes a version, share of full", f"{text} of {byte_size(np.nanmax(full))}"))
    if run.loads:
        seconds = np.array([record["weights/load_s"] for record in run.loads])
        pauses = np.array([record.get("weights/paused_s", 0.0) for record in run.loads])
        rows.append(("weight loads by workers", f"{len(seconds):,}, median {np.median(seconds):.3g} s"))
        rows.append(("pause for a load, median and longest", f"{np.median(pauses):.3g} s, {pauses.max():.3g} s"))
    return rows


def _length_rows(run: RunData) -> Rows:
    rows = []
    if run.has("batch/responses"):
        rows.append(("trained, mean tokens", f"{run.total('batch/tokens') / run.total('batch/responses'):.4g}"))
    if run.has("generated/groups", "generated/length_mean"):
        tokens = np.nansum(run.series("generated/groups") * run.series("generated/length_mean"))
        length = tokens / run.total("generated/groups")
        rows.append(("all generated, mean tokens", f"{length:.4g} (groups graded and then refunded included)"))
    for key in sorted(key for key in run.keys("verdict/") if key.endswith("/length_mean")):
        _, first, last = ends(run.series(key))
        rows.append((f"{key.split('/')[1].replace('_', ' ')}, first and last steps", f"{first:.4g} → {last:.4g}"))
    if run.has("response/length_max"):
        limit = f" of {run.config.longest_response:,} allowed" if run.config is not None else ""
        rows.append(("longest trained", f"{np.nanmax(run.series('response/length_max')):,.0f}{limit}"))
    if run.has("response/truncated_share"):
        _, first, last = ends(run.series("response/truncated_share"))
        rows.append(("truncated, first and last steps", f"{percent(first)} → {percent(last)}"))
    return rows


def _evaluation_rows(run: RunData) -> Rows:
    rows = []
    for name in sorted({line["benchmark"] for line in run.evaluations}):
        lines = sorted(
            (line for line in run.evaluations if line["benchmark"] == name), key=lambda line: line["version"]
        )
        words = [
            f"version {line['version']}: {line['avg_at_n']['value']:.3f} "
            f"[{line['avg_at_n']['low']:.3f}, {line['avg_at_n']['high']:.3f}]"
            for line in lines
        ]
        rows.append((f"{name}, avg@{lines[-1]['n']}", "; ".join(words)))
    return rows


BODY = (
    """\
{% block body %}
<h1>{{ run.name }}</h1>
{{ run.headline() }}
{% for sentence in run.missing %}
<p class="missing">{{ sentence }}</p>
{% endfor %}
<img src="{{ picture }}" alt="{{ panels | map(attribute='title') | join('; ') }}">
{% if evaluations %}
<h2>Evaluation by version</h2>
<p>avg@n over the versions that were evaluated beside the training, with a 95 % bootstrap interval over problems.</p>
<img src="{{ evaluations }}" alt="avg@n over versions, a panel a benchmark">
{% endif %}
<h2>Summary</h2>
<table>
{% for name, rows in sections.items() if rows %}
<tr><th scope="rowgroup" colspan="2">{{ name }}</th></tr>
{% for label, value in rows %}
<tr><th scope="row">{{ label }}</th><td>{{ value }}</td></tr>
{% endfor %}
{% endfor %}
</table>
"""
    + report_samples.TEMPLATE
    + """\
<h2>How to read the pictures</h2>
<dl>
{% for panel in panels %}
<dt>{{ panel.title }}</dt><dd>{{ panel.reading }}</dd>
{% endfor %}
</dl>
<h2>Configuration</h2>
<pre>{{ run.config_text }}</pre>
{% endblock %}
"""
)
