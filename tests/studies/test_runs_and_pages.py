"""Runs are made once and whole; pages say what the runs say."""

import csv
import os
import subprocess
import sys

import numpy as np
import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.files import unfinished
from leeway_rl.studies.catalogue import STUDIES
from leeway_rl.studies.loop import COLUMNS
from leeway_rl.studies.page import write_index, write_page
from leeway_rl.studies.runner import Run, make_missing
from leeway_rl.studies.study import Setting, Study
from leeway_rl.studies.tail import Tail
from leeway_rl.studies.verdict import METRICS, Claim

SMALL = ("train.groups_per_step=2", "train.group_size=4", "train.max_response_tokens=32")
SEEDS = [1, 2, 3]
STUDY = Study(
    name="made-up",
    title="A made-up study",
    question="Does it?",
    source="9.9",
    finding="it does.",
    here="with made-up numbers.",
    settings=(Setting(name="base"), Setting(name="other", sets=SMALL, tail=Tail(mean=2))),
    claims=(
        Claim(text="less entropy", metric="entropy", of=(("other", "base"),), high=0.0, predicted="agrees"),
        Claim(text="more accuracy", metric="accuracy", of=(("other", "base"),), low=0.0, predicted="agrees"),
    ),
)


def made_up(run, **columns):
    """Write a run's CSV with these constants, slightly different for each seed."""
    run.path.parent.mkdir(parents=True, exist_ok=True)
    with run.path.open("w", newline="") as file:
        rows = csv.DictWriter(file, ("step", *COLUMNS))
        rows.writeheader()
        for step in range(run.steps):
            noise = run.config.flow.seed / 1000
            rows.writerow({"step": step} | {name: value + noise for name, value in columns.items()})


@pytest.fixture
def runs(tmp_path):
    runs = STUDY.runs(SEEDS, 12, tmp_path / "runs")
    base, other = runs.values()
    common = {name: 1.0 for name in COLUMNS if not name.startswith("evaluation")}
    for run in base:
        made_up(run, **common | {"evaluation/entropy": 0.2, "evaluation/reward": 0.9})
    for run in other:
        made_up(run, **common | {"evaluation/entropy": 0.1, "evaluation/reward": 0.8})
    return runs


def test_a_page_has_intervals_verdicts_figure_and_data(runs, tmp_path):
    findings = write_page(STUDY, runs, SEEDS, tmp_path / "docs")
    assert [finding.verdict for finding in findings] == ["agrees", "disagrees"]
    page = (tmp_path / "docs" / "made-up.md").read_text()
    assert "other − base: -0.100 ± 0.000 | agrees | **agrees**" in page
    assert "other − base: -0.100 ± 0.000 | agrees | **disagrees**" in page
    assert "| base | as the base | 0.902 ± 0.002 |" in page
    assert "`train.max_response_tokens=32` begun 2 versions before on average" in page
    assert "![A made-up study](made-up.png)" in page
    assert (tmp_path / "docs" / "made-up.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "docs" / "made-up.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(SEEDS) * 12
    assert {(row["setting"], row["seed"]) for row in rows} == {(s, n) for s in ("base", "other") for n in "123"}


def test_the_index_is_a_table_of_all_verdicts(runs, tmp_path):
    findings = write_page(STUDY, runs, SEEDS, tmp_path)
    write_index(tmp_path, {STUDY: findings}, 12)
    index = (tmp_path / "README.md").read_text()
    assert "| [A made-up study](made-up.md) | less entropy | agrees | **agrees** |" in index
    assert "1 agrees, 1 disagrees, 0 undecided" in index


def test_what_is_whole_is_not_made_again(runs):
    every = [run for of in runs.values() for run in of]
    before = [run.path.stat().st_mtime_ns for run in every]
    make_missing(every)
    assert [run.path.stat().st_mtime_ns for run in every] == before


@pytest.mark.slow
def test_what_was_stopped_is_made_from_the_start_beside_others_and_each_the_same(tmp_path):
    """Three runs in two processes, of which one was stopped in its second step; one run's process has made another."""
    config = compose(["tiny"], [*SMALL, "flow.inject_lag=1"])
    made = [Run(config=config, steps=2, path=tmp_path / f"{name}.csv", evaluate_every=1) for name in "abc"]
    stopped = unfinished(made[0].path)
    stopped.write_text("step,reward/mean\n0,0.5\n")
    assert (made[0].progress(), made[0].whole) == (1, False)
    make_missing([*made, made[0]], jobs=2)
    assert all(run.whole for run in made)
    assert not stopped.exists()
    assert len({run.path.read_bytes() for run in made}) == 1
    assert made[0].series("staleness/head_mean").tolist() == [0, 1]
    assert np.isfinite(made[0].series("evaluation/entropy")).all()


def test_studies_share_their_runs(tmp_path):
    """(4,16,4,1) is in several of them."""
    path = {
        name: next(run.path for setting, (run,) in STUDIES[name].runs([1], 60, tmp_path).items() if setting.name == it)
        for name, it in (("updates", "(4,16,4,1)"), ("off-policy", "(4,16,4,1)"), ("rollout-batch", "(4,16,4,1)"))
    }
    assert len(set(path.values())) == 1
    (updates,) = {run.path for of in STUDIES["updates"].runs([2], 60, tmp_path).values() for run in of} & set(
        path.values()
    ) or [None]
    assert updates is None, "another seed is another run"


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_can_be_run_and_judged(study, tmp_path):
    """Settings compose and differ, claims name settings and metrics that are there, and each says what it expects."""
    runs = study.runs([1], 60, tmp_path)
    assert len({run.path for (run,) in runs.values()}) >= len(runs) - 5  # at lag 0 both corrections are the same run
    names = [setting.name for setting in study.settings]
    assert len(set(names)) == len(names)
    for claim in study.claims:
        assert {claim.metric, *study.metrics} <= set(METRICS)
        assert {name for pair in claim.of for name in pair if name} <= set(names)
        assert claim.low < claim.high
        assert np.isfinite([claim.low, claim.high]).any()


def command(*words):
    environment = {key: value for key, value in os.environ.items() if "RANK" not in key and key != "WORLD_SIZE"}
    line = [sys.executable, "-m", "leeway_rl.leeway.cli", "study", *words]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=800, check=False)


def test_the_studies_are_listed_and_an_unknown_one_is_refused():
    listed = command("--list")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(STUDIES)
    refused = command("stalenes")
    assert refused.returncode != 0
    assert "there is no study 'stalenes'; there are staleness, " in refused.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_studies_in_short(tmp_path):
    done = command(
        "--all", "--steps", "1", "--seeds", "1", "--out", str(tmp_path), "--runs-dir", str(tmp_path / "runs")
    )
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path.stem for path in tmp_path.glob("*.md")}
    assert pages == {*STUDIES, "README"}
    assert "undecided" in (tmp_path / "README.md").read_text()


def test_the_same_study_of_other_rows_is_made_anew(tmp_path, monkeypatch):
    from leeway_rl.studies import study

    rows = tmp_path / "rows.jsonl"
    monkeypatch.setattr(study, "BASE", (*study.BASE, f"data.path={rows}"))
    paths = []
    for answer in ("2", "3", "2"):
        rows.write_text(f'{{"prompt": "1+1", "answer": "{answer}", "ability": "exact"}}\n')
        paths += [run.path for run in STUDY.runs([1], 2, tmp_path)[STUDY.settings[0]]]
    assert paths[0] == paths[2] != paths[1]
