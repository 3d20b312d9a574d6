"""The page of a study: question, predictions, what was measured, verdicts; and the table of all verdicts."""

import csv
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ..common.files import whole_file, write_whole
from ..common.tables import markdown
from ..leeway.sweeping.intervals import interval
from .figure import draw
from .holm import kept, p_value
from .remarks import LIMITS, SEEN
from .runner import Run
from .study import BASE, FIRST_KEPT, MORE_SEEDS, PRESET, SEEDS, STEPS, Setting, Study
from .study import KEPT as COLLAPSED
from .verdict import METRICS, Finding, judge

KEPT = (
    "reward/mean", "entropy/policy", "evaluation/reward", "evaluation/entropy", "entropy/coefficient",
    "policy/clip_fraction", "logprob/ess", "kl/reference", "generated/groups", "generated/tokens",
    "generated/length_mean", "generated/truncated_share", "overflow/groups", "staleness/token_mean",
)  # fmt: skip
"""Columns of the CSV beside a page."""

Runs = Mapping[Setting, Sequence[Run]]
"""The runs of every setting, one for each seed, in the same order."""


class Measured(Protocol):
    """A run that has been made, wherever its numbers are read from."""

    @property
    def steps(self) -> int: ...

    def series(self, column: str) -> np.ndarray: ...


def write_page(study: Study, runs: Runs, seeds: Sequence[int], folder: Path) -> list[Finding]:
    """Write NAME.md, NAME.png and NAME.csv into ``folder``; returns the judged claims. All ``runs`` have been made."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(runs, seeds, folder / f"{study.name}.csv")
    write_whole(folder / f"{study.name}.png", draw(study, runs))
    text, findings = page_of(study, runs, seeds, os.cpu_count())
    write_whole(folder / f"{study.name}.md", text)
    return findings


def page_of(
    study: Study, runs: Mapping[Setting, Sequence[Measured]], seeds: Sequence[int], cores: int | None
) -> tuple[str, list[Finding]]:
    """(the page's text, the judged claims). ``cores``: how many the machine has that made the runs."""
    values = {
        name: {setting.name: [METRICS[name].of(run.series) for run in of] for setting, of in runs.items()}
        for name in {*study.metrics, *(claim.metric for claim in study.claims)}
    }
    findings = [judge(claim, values[claim.metric]) for claim in study.claims]
    steps = min(run.steps // setting.times for setting, of in runs.items() for run in of)
    return _text(study, values, findings, seeds, steps, cores), findings


Values = Mapping[str, Mapping[str, Sequence[float]]]
"""Values by metric and setting, one for each seed."""


def _text(
    study: Study,
    values: Values,
    findings: Sequence[Finding],
    seeds: Sequence[int],
    steps: int,
    cores: int | None,
) -> str:
    as_seen = (tuple(seeds), steps) == (study.seeds, STEPS)  # remarks are about these runs
    lines = [
        f"# {study.title}",
        study.question,
        "",
        f"**The report** ({study.source}): {study.finding}",
        "",
        f"**Here**: {study.here}",
        "",
        *markdown(("claim", "measured", "predicted", "verdict"), map(_finding_row, findings)),
        "",
        *(
            [f"**Seen besides**, without a prediction: {SEEN[study.name]}", ""]
            if as_seen and study.name in SEEN
            else []
        ),
        *([f"**Limits.** {LIMITS[study.name]}", ""] if as_seen and study.name in LIMITS else []),
        f"![{study.title}]({study.name}.png)",
        "",
        *_table(study, values),
        "",
        METHOD.format(seeds=f"{len(seeds)} seeds ({', '.join(map(str, seeds))})"),
        *_second_look(findings, values, seeds),
        *_first_threshold(findings, values),
        "",
        "```",
        f"leeway study {study.name}",
        "```",
        f"{steps} steps a run, one thread a run, {cores}-core CPU. The base is preset `{PRESET}` with "
        f"{' '.join(f'`{each}`' for each in BASE)}. Every step's numbers: [{study.name}.csv]({study.name}.csv).",
        "",
    ]
    return "\n".join(lines)


METHOD = """\
Mean over {seeds} ± half of the 95 % interval by Student's t; a difference between two settings is taken seed by
seed. In brackets: where the whole interval has to lie. Predictions were committed before the study ran, and no pilot
had used these seeds. Accuracy and entropy are of 128 held-out prompts with 4 responses each at τ = 1, the mean of the
evaluations in the last third of the steps (halfway: in the middle third); e_k is the policy's entropy on its own
training batch, at the τ it samples with. A verdict is about its claim alone: one in twenty would come out by chance.
Which of them hold when all claims of all studies are looked at together stands in [the table](README.md)."""


def _second_look(findings: Sequence[Finding], values: Values, seeds: Sequence[int]) -> list[str]:
    """Lines on what the seeds that were added after a look have changed."""
    if tuple(seeds) != MORE_SEEDS:
        return []
    first = len(SEEDS)
    before = [
        judge(each.claim, {name: of[:first] for name, of in values[each.claim.metric].items()}) for each in findings
    ]
    changed = [
        f"“{after.claim.text}” was `{then.verdict}` with {first} seeds and is `{after.verdict}` with {len(seeds)}"
        for then, after in zip(before, findings, strict=True)
        if then.verdict != after.verdict
    ]
    added = " and ".join(map(str, seeds[first:]))
    return [
        f"Seeds {added} were added to this study and to two more after a look at the first {first}, because claims",
        "about entropy were undecided. Other studies with undecided claims got none. The claims are unchanged. After a",
        "second look a verdict comes by chance more often than once in twenty.",
        "; ".join(changed) + "." if changed else "No verdict changed.",
    ]


def _first_threshold(findings: Sequence[Finding], values: Values) -> list[str]:
    """Lines on the verdicts that claims about a collapse would have by the threshold from before the pilots."""
    lines = []
    for finding in findings:
        claim = finding.claim
        if claim.metric == "entropy kept":
            low, high = (FIRST_KEPT if np.isfinite(bound) else bound for bound in (claim.low, claim.high))
            verdict = judge(replace(claim, low=low, high=high), values[claim.metric]).verdict
            lines += [
                f"Where a collapse begins is our choice: {FIRST_KEPT} of the initial entropy in the first draft, and",
                f"{COLLAPSED} since pilots of seed 0, which came before these runs. By {FIRST_KEPT} the claim",
                f"“{claim.text}” would be `{verdict}`.",
            ]
    return lines


def _finding_row(finding: Finding) -> list[str]:
    claim, digits = finding.claim, METRICS[finding.claim.metric].digits
    parts = [
        f"{setting}{f' − {other}' if other else ''}: {measured.text(digits, signed=other is not None)}"
        for (setting, other), measured in zip(claim.of, finding.measured, strict=True)
    ]
    text = f"{claim.text} [{METRICS[claim.metric].title}: {_range(claim.low, claim.high)}]"
    return [text, "<br>".join(parts), claim.predicted, f"**{finding.verdict}**"]


def _range(low: float, high: float) -> str:
    if np.isinf(low):
        return f"below {high:g}"
    return f"above {low:g}" if np.isinf(high) else f"{low:g} to {high:g}"


def _table(study: Study, values: Values) -> list[str]:
    def cells(setting: Setting) -> list[str]:
        measured = (interval(values[name][setting.name]).text(METRICS[name].digits) for name in study.metrics)
        return [setting.name, setting.keys, *measured]

    heads = ["setting", "keys", *(METRICS[name].title for name in study.metrics)]
    return markdown(heads, map(cells, study.settings))


def _write_csv(runs: Runs, seeds: Sequence[int], path: Path) -> None:
    with whole_file(path) as temporary, temporary.open("w", newline="") as out:
        rows = csv.writer(out, lineterminator="\n")
        rows.writerow(("setting", "seed", "step", *KEPT))
        for setting, of in runs.items():
            for seed, run in zip(seeds, of, strict=True):
                with run.path.open() as file:
                    rows.writerows(
                        (setting.name, seed, row["step"], *(row[name] for name in KEPT)) for row in csv.DictReader(file)
                    )


def write_index(folder: Path, findings: Mapping[Study, Sequence[Finding]], steps: int) -> None:
    """Write README.md: the table of all verdicts."""
    write_whole(folder / "README.md", index_of(findings, steps, os.cpu_count()))


def index_of(findings: Mapping[Study, Sequence[Finding]], steps: int, cores: int | None, note: str = "") -> str:
    """The table of all verdicts, with Holm's correction for all of them. ``cores``: how many the machine has that ran
    them; ``note``: what else the reader has to know of the runs."""
    lines = [
        "# Studies",
        "",
        "The report's ablations at toy scale, and studies of staleness that the report could not run.",
        "",
        "```",
        "leeway study --all",
        "```",
        "",
        INDEX.format(preset=PRESET, steps=steps, cores=cores),
        *(["", note] if note else []),
        "",
    ]
    p_values = [p_value(finding) for judged in findings.values() for finding in judged]
    holds = kept(p_values)
    corrected = iter(zip(p_values, holds, strict=True))
    rows = []
    for study, judged in findings.items():
        for number, finding in enumerate(judged):
            name = f"[{study.title}]({study.name}.md)" if number == 0 else ""
            p, held = next(corrected)
            claim, verdict = finding.claim, f"**{finding.verdict}**"
            rows.append([name, claim.text, claim.predicted, verdict, _p(p), "yes" if held else "no"])
    lines += markdown(("study", "claim", "predicted", "verdict", "p", "holds among all"), rows)
    verdicts = [finding.verdict for judged in findings.values() for finding in judged]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("agrees", "disagrees", "undecided"))
    decided = len(verdicts) - verdicts.count("undecided")
    lines += ["", counts, "", HOLM.format(claims=len(verdicts), decided=decided, held=sum(holds)), ""]
    return "\n".join(lines)


def _p(p: float) -> str:
    return "below 0.0001" if p < 0.0001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


INDEX = """\
A study compares a few settings at toy scale. All begin with preset `{preset}`, whose model has 0.4M parameters and adds
two-digit numbers. Each setting is trained for {steps} steps with three seeds or five, as the page says, on a
{cores}-core CPU.

Each study has claims, and the table below has a verdict on each. A verdict is about the claim **at this scale**:

- `agrees`: the whole 95 % interval lies where the claim puts it.
- `disagrees`: no part of the interval lies there.
- `undecided`: neither of the two.

A claim about several settings agrees where all of them agree, and disagrees where one of them disagrees.

The predictions were committed before the studies ran, and no pilot had used these seeds. Under **Limits** each page
says what its verdicts must not be taken for."""
HOLM = """\
## All claims together
**{held} of the {decided} verdicts hold together: those with "yes" in the last column.** A verdict by itself
allows one error in twenty, and there are {claims} claims. Holm's correction (1979) allows one in twenty that
any of those it keeps is wrong. The claim with the smallest p must have at most 0.05/{claims}, the next one at
most 0.05/({claims} − 1), and so on up to the first that has more. Undecided claims count among the {claims}. A
verdict that does not hold is not refuted: it needs more seeds.

p is the smallest chance of error at which a verdict still comes out, by Student's t, two-sided as the intervals
are. A claim about several settings has the largest p of theirs where it agrees, and the smallest times their
number where it disagrees. The rule is in [holm.py](../../studies/holm.py). This command computes every figure
of these pages anew from the CSV files beside them, and compares:

```
python tests/proofs/study_pages.py --check
```

The correction does not know everything. Student's t takes the values of a setting to be normal, and three
values cannot show whether they are. Three studies got two more seeds after a look, and where a collapse begins
was moved after pilots: the pages say which verdicts that changed. What stands under **Seen besides** and
**Limits** was looked for afterwards, and is in no correction."""
