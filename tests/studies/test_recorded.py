"""What docs/studies says is what its CSV files hold."""

import functools
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.leeway.sweeping.intervals import difference, interval
from leeway_rl.studies.catalogue import STUDIES
from leeway_rl.studies.recorded import recorded
from leeway_rl.studies.remarks import LIMITS, SEEN
from leeway_rl.studies.verdict import METRICS

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs/studies"
BATCH, SIZE = 16, 8


def rewrite(monkeypatch, capsys, *options):
    """Exit code and output of the command that writes the pages."""
    monkeypatch.setattr(sys, "argv", ["study_pages.py", *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(ROOT / "tests/proofs/study_pages.py"), run_name="__main__")
    return ended.value.code, capsys.readouterr().out


def test_every_page_says_what_its_csv_holds(monkeypatch, capsys):
    assert rewrite(monkeypatch, capsys, "--check") == (0, "14 of 14 pages were as they must be\n")


def test_a_page_that_says_something_else_is_found_and_written_anew(monkeypatch, capsys, tmp_path):
    for path in (*DOCS.glob("*.csv"), *DOCS.glob("*.md")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "kl.md").write_text((DOCS / "kl.md").read_text().replace("0.856", "0.956"))
    code, said = rewrite(monkeypatch, capsys, "--check", "--folder", str(tmp_path))
    assert (code, said.splitlines()[0]) == (1, "kl.md: not what its CSV says")
    assert rewrite(monkeypatch, capsys, "--folder", str(tmp_path))[0] == 0
    assert (tmp_path / "kl.md").read_text() == (DOCS / "kl.md").read_text()


def test_a_seed_that_is_not_in_the_file_is_named(tmp_path):
    lines = (DOCS / "kl.csv").read_text().splitlines()
    (tmp_path / "kl.csv").write_text("\n".join(line for line in lines if not line.startswith("β 0.1,13,")))
    with pytest.raises(DataError, match=r"no row of setting 'β 0.1' with seed 13"):
        recorded(STUDIES["kl"], tmp_path / "kl.csv")


@functools.cache
def runs_of(study):
    """By the setting's name."""
    return {setting.name: runs for setting, runs in recorded(STUDIES[study], DOCS / f"{study}.csv").items()}


def between(study, setting, other, metric, digits=3):
    runs = runs_of(study)
    values = [[METRICS[metric].of(run.series) for run in runs[name]] for name in (setting, other)]
    return difference(*values).text(digits, signed=True).replace("-", "−")


def alone(study, setting, metric):
    return interval([METRICS[metric].of(run.series) for run in runs_of(study)[setting]]).text()


@pytest.mark.parametrize(
    ("study", "setting", "other", "metric", "said"),
    [
        ("kl", "β 0.1", "β 0.001", "accuracy", "−0.005 ± 0.009"),
        ("staleness", "lag 8, none, decoupled", "lag 8, none, coupled", "accuracy", "−0.136 ± 0.255"),
        ("staleness", "lag 8, adaptive, decoupled", "lag 8, adaptive, coupled", "accuracy", "−0.305 ± 0.264"),
        ("staleness", "lag 1, none, coupled", "lag 1, none, decoupled", "accuracy", "+0.035 ± 0.021"),
        ("staleness", "lag 2, none, coupled", "lag 2, none, decoupled", "accuracy", "+0.016 ± 0.020"),
        ("staleness", "lag 16, none, decoupled", "lag 0, none, coupled", "entropy", "+0.129 ± 0.104"),
        ("staleness", "lag 0, none, coupled", "lag 0, adaptive, coupled", "accuracy", "+0.046 ± 0.039"),
        ("staleness", "lag 4, none, coupled", "lag 4, adaptive, coupled", "accuracy", "+0.111 ± 0.041"),
        ("temperature", "τ 0.6", "(2,16,8,1)", "entropy", "+0.028 ± 0.013"),
    ],
)
def test_a_difference_in_the_remarks_is_the_one_in_the_csv(study, setting, other, metric, said):
    assert between(study, setting, other, metric) == said
    assert said.removeprefix("+") in " ".join((SEEN.get(study, "") + LIMITS[study]).split())


@pytest.mark.parametrize(
    ("study", "setting", "metric", "said"),
    [
        ("staleness", "lag 8, adaptive, decoupled", "batch entropy", "0.184 ± 0.081"),
        ("staleness", "lag 16, adaptive, decoupled", "batch entropy", "0.188 ± 0.031"),
        ("staleness", "lag 16, none, decoupled", "accuracy", "0.304 ± 0.359"),
        ("adaptive-entropy", "(2,16,8,1), adaptive", "batch entropy", "0.118 ± 0.012"),
        ("constant-alpha", "α 0.1", "batch entropy", "0.159 ± 0.006"),
    ],
)
def test_a_mean_in_the_remarks_is_the_one_in_the_csv(study, setting, metric, said):
    assert alone(study, setting, metric) == said
    assert said in " ".join((SEEN.get(study, "") + LIMITS.get(study, "")).split())


def test_off_policy_data_at_four_updates_is_undecided():
    runs = runs_of("off-policy")
    entropy = METRICS["entropy"].of
    found = difference(*([entropy(run.series) for run in runs[name]] for name in ("(4,16,4,1)", "(1,4,4,1) × 4")))
    assert (round(found.low, 3), round(found.high, 4)) == (-0.023, 0.0015)
    assert "[−0.023, +0.0015]" in LIMITS["off-policy"]


def test_the_cold_runs_trained_about_half_of_the_groups():
    """A group with a signal has a wrong response, so a step cannot have trained more groups than it has wrong ones."""
    most, gave_up = [], []
    for run in runs_of("temperature")["τ 0.6"]:
        groups = run.series("generated/groups")
        wrong = np.round((1 - run.series("reward/mean")) * groups * SIZE)
        most.append(int(np.minimum(BATCH, wrong).sum()))
        gave_up.append(int((groups == 6 * BATCH).sum()))
    assert (min(most), max(most), min(gave_up), max(gave_up)) == (438, 457, 42, 43)
    text = " ".join(LIMITS["temperature"].split())
    assert "at most 438 to 457 groups" in text
    assert "In 42 or 43 of the 50 steps" in text


def test_a_short_context_makes_more_groups_be_sampled():
    by_name = runs_of("stages")
    groups = {name: np.mean([run.series("generated/groups")[:25] for run in runs]) for name, runs in by_name.items()}
    assert [round(mean) for mean in groups.values()] == [17, 24]
    cut = np.mean([run.series("generated/truncated_share")[:25] for run in by_name["T 20, then 40"]])
    assert round(100 * cut) == 26
    assert "26 % of the responses in the first 25 steps" in " ".join(LIMITS["stages"].split())


def test_remarks_are_of_studies_that_exist():
    assert {*SEEN, *LIMITS} <= set(STUDIES)
