"""The page of a study: question, predictions, what was measured, verdicts; and the table of all verdicts."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..leeway.intervals import Interval, interval
from .figure import draw
from .runner import Run
from .study import BASE, MORE_SEEDS, PRESET, SEEDS, Setting, Study
from .verdict import METRICS, Finding, judge

KEPT = (
    "reward/mean", "entropy/policy", "evaluation/reward", "evaluation/entropy", "entropy/coefficient",
    "policy/clip_fraction", "logprob/ess", "kl/reference", "generated/groups", "generated/tokens",
    "generated/length_mean", "generated/truncated_share", "overflow/groups", "staleness/token_mean",
)  # fmt: skip
"""Columns of the CSV beside a page."""

Runs = Mapping[Setting, Sequence[Run]]
"""Of every setting one run a seed, in the same order."""


def write_page(study: Study, runs: Runs, seeds: Sequence[int], folder: Path) -> list[Finding]:
    """Write NAME.md, NAME.png and NAME.csv into ``folder``; returns the judged claims. ``runs`` are made."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        name: {setting.name: [METRICS[name].of(run.series) for run in of] for setting, of in runs.items()}
        for name in {*study.metrics, *(claim.metric for claim in study.claims)}
    }
    findings = [judge(claim, values[claim.metric]) for claim in study.claims]
    _write_csv(runs, seeds, folder / f"{study.name}.csv")
    (folder / f"{study.name}.png").write_bytes(draw(study, runs))
    steps = min(run.steps // setting.times for setting, of in runs.items() for run in of)
    (folder / f"{study.name}.md").write_text(_text(study, values, findings, seeds, steps))
    return findings


def _text(
    study: Study,
    values: Mapping[str, Mapping[str, Sequence[float]]],
    findings: Sequence[Finding],
    seeds: Sequence[int],
    steps: int,
) -> str:
    lines = [
        f"# {study.title}",
        study.question,
        "",
        f"**The report** ({study.source}): {study.finding}",
        "",
        f"**Here**: {study.here}",
        "",
        "| claim | measured | predicted | verdict |",
        "|---|---|---|---|",
        *(_finding_row(finding) for finding in findings),
        "",
        *([f"**Seen besides**, without a prediction: {study.seen}", ""] if study.seen else []),
        f"![{study.title}]({study.name}.png)",
        "",
        *_table(study, values),
        "",
        METHOD.format(seeds=f"{len(seeds)} seeds ({', '.join(map(str, seeds))})")
        + (ADDED if tuple(seeds) == MORE_SEEDS else ""),
        "",
        "```",
        f"leeway study {study.name}",
        "```",
        f"{steps} steps a run, one thread a run, {os.cpu_count()}-core CPU. The base is preset `{PRESET}` with "
        f"{' '.join(f'`{each}`' for each in BASE)}. Every step's numbers: [{study.name}.csv]({study.name}.csv).",
        "",
    ]
    return "\n".join(lines)


METHOD = """\
Mean over {seeds} ± half of the 95 % interval by Student's t; a difference between two settings is taken seed by
seed. In brackets: where the whole interval has to lie. Predictions were committed before the study ran, and no pilot
had used these seeds. Accuracy and entropy are of 128 held-out prompts with 4 responses each at τ = 1, the mean of the
evaluations in the last third of the steps (halfway: in the middle third); e_k is the policy's entropy on its own
training batch, at the τ it samples with. With many claims at 95 %, one in twenty would come out by chance."""
ADDED = f"""
The last {len(MORE_SEEDS) - len(SEEDS)} seeds were added after the first {len(SEEDS)} had left claims about entropy
undecided; the claims are unchanged. Looking twice makes chance a little likelier than one in twenty."""


def _finding_row(finding: Finding) -> str:
    claim, digits = finding.claim, METRICS[finding.claim.metric].digits
    parts = [
        f"{setting}{f' − {other}' if other else ''}: {measured.text(digits, signed=other is not None)}"
        for (setting, other), measured in zip(claim.of, finding.measured, strict=True)
    ]
    text = f"{claim.text} [{METRICS[claim.metric].title}: {_range(claim.low, claim.high)}]"
    return f"| {text} | {'<br>'.join(parts)} | {claim.predicted} | **{finding.verdict}** |"


def _range(low: float, high: float) -> str:
    if np.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"


def _table(study: Study, values: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
    lines = [
        "| setting | keys | " + " | ".join(METRICS[name].title for name in study.metrics) + " |",
        "|---|---|" + "---|" * len(study.metrics),
    ]
    for setting in study.settings:
        cells = [_cell(interval(values[name][setting.name]), METRICS[name].digits) for name in study.metrics]
        lines.append(f"| {setting.name} | {setting.keys} | " + " | ".join(cells) + " |")
    return lines


def _cell(measured: Interval, digits: int) -> str:
    return measured.text(digits)


def _write_csv(runs: Runs, seeds: Sequence[int], path: Path) -> None:
    part = path.with_suffix(".csv.part")
    with part.open("w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(("setting", "seed", "step", *KEPT))
        for setting, of in runs.items():
            for seed, run in zip(seeds, of, strict=True):
                with run.path.open() as file:
                    rows.writerows(
                        (setting.name, seed, row["step"], *(row[name] for name in KEPT)) for row in csv.DictReader(file)
                    )
    part.replace(path)


def write_index(folder: Path, findings: Mapping[Study, Sequence[Finding]], steps: int) -> None:
    """Write README.md: the table of all verdicts."""
    lines = [
        "# Studies: the report's ablations at toy scale, and what it could not run",
        "",
        "```",
        "leeway study --all",
        "```",
        INDEX.format(steps=steps, cores=os.cpu_count()),
        "",
        "| study | claim | predicted | verdict |",
        "|---|---|---|---|",
    ]
    for study, judged in findings.items():
        for number, finding in enumerate(judged):
            name = f"[{study.title}]({study.name}.md)" if number == 0 else ""
            lines.append(f"| {name} | {finding.claim.text} | {finding.claim.predicted} | **{finding.verdict}** |")
    counts = [finding.verdict for judged in findings.values() for finding in judged]
    lines += [
        "",
        ", ".join(f"{counts.count(verdict)} {verdict}" for verdict in ("agrees", "disagrees", "undecided")),
        "",
    ]
    (folder / "README.md").write_text("\n".join(lines))


INDEX = """\
Three seeds or five, as each page says, {steps} steps a run, {cores}-core CPU; the model has 0.4M parameters and adds
two-digit numbers. A verdict is about the claim **at this scale**: `agrees` where the whole 95 % interval lies where the
claim puts it, `disagrees` where none of it does, else `undecided`. The predictions were committed before the studies
ran, and no pilot had used these seeds."""
