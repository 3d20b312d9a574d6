"""Trackers as they are installed, offline: what each holds of a run is read back out of its own files. And a tracker
that never answers, beside a run that does not wait for it."""

import json
import shlex
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.ledger import Ledger
from leeway_rl.common.metrics import measured
from leeway_rl.common.samples import line_of
from leeway_rl.leeway.tracking.charts import charted
from leeway_rl.leeway.tracking.news import COLUMNS

from tests.integration.running import SMALL, command, environment, metrics, paused
from tests.leeway.test_report import made_up_lines, write_lines
from tests.leeway.test_samples import response, sample
from tests.tracked import mlflow_table, mlflow_values, trackio_rows, wandb_records, wandb_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STEPS, BACK_TO = 40, 25
COMMANDS = [
    """leeway up --preset tiny --run my-run --set "metrics.trackers=['trackio']\"""",
    "leeway track my-run --to trackio",
]
"""Of docs/how-to/trackers.md."""


def track(cwd: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``leeway track`` with every tracker offline, and its files under ``cwd``."""
    offline = {"WANDB_MODE": "offline", "TRACKIO_DIR": str(cwd / "trackio"), "HOME": str(cwd)}
    return subprocess.run(
        command("track", *words), cwd=cwd, env=environment() | offline | variables, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """(A folder in which all trackers have followed a run over a rollback and a turn of the dial, its lines before the
    rollback and after it)."""
    cwd = tmp_path_factory.mktemp("tracked")
    folder = cwd / "runs/a-run"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(compose(["tiny"], [f"train.steps={STEPS}", "metrics.project=mine"])))
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("run", run="a-run", steps=STEPS)
    ledger.write("started", incarnation=1, version=0)
    ledger.write("control", name="max_staleness", value=2, previous=1, version=12, by="operator")
    before = [line | {"flow/overflow": "wait"} for line in made_up_lines(30, bound=1)]
    write_lines(folder / "metrics.jsonl", before)
    group = sample(10, response(0, 1.0, text="= 4 ✓"), response(1, 0.0), ticket=160, at=1.0)
    (folder / "samples.jsonl").write_text(line_of(group))
    all_of_them = ["--to", "wandb", "--to", "trackio", "--to", "mlflow"]
    done = track(cwd, "a-run", *all_of_them)
    assert done.returncode == 0, done.stdout + done.stderr

    ledger.write("rolled_back", to_line=ledger.line)
    ledger.write("started", incarnation=2, version=BACK_TO)
    again = [line | {"at": line["at"] + 1000, "loss": 7.0} for line in made_up_lines(STEPS, bound=1)[BACK_TO:]]
    write_lines(folder / "metrics.jsonl", before[:BACK_TO] + again)
    (folder / "samples.jsonl").write_text(line_of(group) + line_of(replace(group, step=30, ticket=480, at=2.0)))
    ledger.write("end", version=STEPS)
    ledger.close()
    done = track(cwd, "a-run", *all_of_them)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stdout.splitlines() if f"has every step up to {STEPS - 1}: " in line]) == 3
    return cwd, before, again


def expected(line):
    """The numbers that a tracker holds of a step."""
    return {charted(name): value for name, value in measured(line).items()} | {"progress/version": line["version"]}


def test_wandb_holds_every_step_and_key(tracked):
    cwd, before, again = tracked
    files = sorted((cwd / "runs/a-run/wandb").glob("offline-run-*/*.wandb"))
    records = [record for file in files for record in wandb_records(file)]
    rows = wandb_rows(records)
    steps = [row for row in rows if "1 answers/reward/mean" in row]
    assert [row["step"] for row in steps] == [line["step"] for line in before + again]
    for row, line in zip(steps, before + again, strict=True):
        assert {name: row[name] for name in expected(line)} == pytest.approx(expected(line), nan_ok=True)
        assert row["_timestamp"] == pytest.approx(line["at"])
    assert [row["_step"] for row in rows] == sorted({row["_step"] for row in rows})  # it may never go back
    assert steps[0]["7 machines/flow/overflow"] == "wait"

    ids = {record.run.run_id for record in records if record.WhichOneof("record_type") == "run"}
    assert len(ids) == 1
    alerts = [record.alert.text for record in records if record.WhichOneof("record_type") == "alert"]
    assert alerts == ["max_staleness: 1 → 2, by the operator", "learner 2 goes on from the checkpoint of step 25"]
    config = {item.key: json.loads(item.value_json) for each in records for item in each.run.config.update}
    config |= {item.key: json.loads(item.value_json) for each in records for item in each.config.update}
    assert config["train"]["steps"] == STEPS
    axes = {each.metric.glob_name or each.metric.name: each.metric.step_metric for each in records}
    assert axes["*"] == "step"
    tables = [json.loads(path.read_text()) for path in sorted(cwd.rglob("wandb/**/*.table.json"))]
    assert [(table["columns"], len(table["data"])) for table in tables] == [(list(COLUMNS), 2)] * 2
    assert tables[0]["data"][0][COLUMNS.index("response")] == "= 4 ✓"


def test_trackio_holds_every_step_and_key(tracked):
    cwd, before, again = tracked
    rows = [(row["step"], json.loads(row["metrics"])) for row in trackio_rows(cwd / "trackio", "mine")]
    steps = [(step, values) for step, values in rows if "1 answers/reward/mean" in values]
    assert [step for step, _ in steps] == [line["step"] for line in before + again]
    for (_, values), line in zip(steps, before + again, strict=True):
        assert {name: values[name] for name in expected(line)} == pytest.approx(expected(line))
    tables = [values["samples"]["_value"] for _, values in rows if "samples" in values]
    assert [table[0]["response"] for table in tables] == ["= 4 ✓"] * 2
    alerts = [(row["step"], row["title"]) for row in trackio_rows(cwd / "trackio", "mine", "alerts")]
    assert alerts == [(12, "η = 2"), (25, "resumed at step 25")]
    assert len({row["run_id"] for row in trackio_rows(cwd / "trackio", "mine")}) == 1
    (config,) = trackio_rows(cwd / "trackio", "mine", "configs")
    assert json.loads(config["config"])["train"]["steps"] == STEPS


def test_mlflow_holds_every_step_and_key(tracked):
    cwd, before, again = tracked
    database = cwd / "runs/mlflow.db"
    values = mlflow_values(database)
    for line in before[:BACK_TO] + again:
        found = {name: values[line["step"], name][-1] for name in expected(line)}
        assert found == pytest.approx(expected(line))
    assert len(values[29, "1 answers/reward/mean"]) == 2  # what the rollback undid, and what was made then
    params, tags = mlflow_table(database, "params"), mlflow_table(database, "tags")
    assert (params["train.steps"], params["metrics.project"]) == (str(STEPS), "mine")
    assert tags["turn/step 000012/max_staleness"] == "max_staleness: 1 → 2, by the operator"
    assert tags["7 machines/flow/overflow"] == "wait"
    tables = [json.loads(path.read_text()) for path in sorted((cwd / "runs/mlflow-artifacts").rglob("*.json"))]
    assert [table["data"][0][COLUMNS.index("response")] for table in tables] == ["= 4 ✓"] * 2


def test_wandb_without_a_key_is_told_in_one_line_and_not_tried_again(tracked):
    cwd, *_ = tracked
    done = track(cwd, "a-run", "--to", "wandb", WANDB_MODE="online")
    assert done.returncode == 7
    mistake, given_up, failed = [line for line in done.stderr.splitlines() if line.startswith(("leeway", "tracker"))]
    assert "log in with `wandb login`, or keep the run on this machine with WANDB_MODE=offline" in mistake
    assert given_up.endswith("the run goes on without it")
    assert failed == "leeway: not everything was sent: tracker-wandb; the same command goes on from there"


@pytest.fixture
def never_answers():
    """The address of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_the_documented_run_is_tracked_and_does_not_wait_for_a_tracker_that_never_answers(
    tmp_path, never_answers, wait_until
):
    variables = environment() | {"TRACKIO_DIR": str(tmp_path / "trackio"), "MLFLOW_TRACKING_URI": never_answers}
    up, track_again = (shlex.split(words)[1:] for words in COMMANDS)
    up = [words.replace("['trackio']", "['trackio', 'mlflow']") for words in up]
    folder, words = tmp_path / "runs/my-run", command(*up, *SMALL[2:], "--set", "train.steps=12")
    nothing, read = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(words, cwd=tmp_path, env=variables, stdout=nothing, stderr=read, text=True) as running:
        wait_until((folder / "redis-url").exists, "its server", 300)
        with paused(folder):  # a busy machine may take longer to import a tracker than it has at the end
            wait_until((folder / "trackers/trackio.json").exists, "trackio follows", 300)
        _, wrong = running.communicate(timeout=600)
    assert running.returncode == 0, wrong
    assert len(metrics(folder)) == 12
    (said,) = [line for line in wrong.splitlines() if "tracker-" in line]
    assert "mlflow did not take everything within 20 s; leeway track" in said
    audit = subprocess.run(command("audit", "my-run"), cwd=tmp_path, env=variables, check=False)
    assert audit.returncode == 0

    again = subprocess.run(
        command(*track_again), cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=600, check=False
    )
    assert again.returncode == 0, again.stderr
    rows = [(row["step"], json.loads(row["metrics"])) for row in trackio_rows(tmp_path / "trackio", "leeway")]
    steps = [step for step, values in rows if "1 answers/reward/mean" in values]
    assert steps == list(range(12))
