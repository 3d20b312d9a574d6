"""Two real runs as one sweep, stopped in the middle of the first and taken up again."""

import csv
import shutil
import signal

import pytest
from leeway_rl.common.ledger import is_complete, read

from tests.integration.running import leeway, metrics, pause, role_pids, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FEW = ["train.steps=32", "train.groups_per_step=4", "train.group_size=4"]
SWEEP = [
    *("sweep", "--preset", "tiny", "--grid", "flow.max_staleness=0,1", "--seeds", "1", "--out", "both"),
    *(word for setting in FEW for word in ("--set", setting)),
]
NAMES = {f"max_staleness-{bound}_seed-0" for bound in (0, 1)}


def begun(folder):
    """The runs that have made a training step."""
    return [path.parent for path in folder.glob("runs/*/metrics.jsonl") if metrics(path.parent)]


def test_a_sweep_is_stopped_taken_up_and_compared(tmp_path, wait_until):
    folder = tmp_path / "both"
    stopped = start(*SWEEP, cwd=tmp_path)
    wait_until(lambda: bool(begun(folder)) or stopped.poll() is not None, "a training step", timeout_s=300)
    (first,) = begun(folder)
    with pause(first):  # it cannot be through before it is asked
        assert role_pids(first.name, "learner", tmp_path)
        stopped.send_signal(signal.SIGTERM)
        said, _ = stopped.communicate(timeout=600)
    shutil.rmtree(first / "redis")  # with it goes the pause
    assert begun(folder) == [first]
    assert stopped.returncode == 130, said
    assert "go on with: leeway sweep --out both" in said
    assert not is_complete(first)
    assert not role_pids(first.name, "learner", tmp_path)
    assert not role_pids(first.name, "rollout", tmp_path)

    other = leeway(*SWEEP, "--set", "train.group_size=8", cwd=tmp_path)
    assert other.returncode == 2
    assert "train.group_size was 4, is 8" in other.stderr

    done = leeway("sweep", "--out", "both", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "report: both/report.html"
    started = [line["version"] for line in read(first / "ledger.jsonl") if line["event"] == "started"]
    assert started[0] == 0 < started[1], "it went on from its checkpoint"
    with (folder / "sweep.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    assert set(rows) == NAMES
    assert rows[first.name]["resumed"] == "1"
    assert all(row["steps"] == "32" and float(row["steps_per_hour"]) > 0 for row in rows.values())
    assert float(rows["max_staleness-0_seed-0"]["head_staleness"]) == 0


def test_points_that_fail_are_named_and_the_others_go_on(tmp_path):
    grid = ["--grid", "data.path=absent.jsonl,missing.jsonl", "--seeds", "1"]
    done = leeway("sweep", "--preset", "tiny", *grid, "--out", "both", cwd=tmp_path)
    assert done.returncode == 7, done.stdout + done.stderr
    for name in ("absent", "missing"):
        assert f"path-{name}.jsonl_seed-0: failed with exit code 3" in done.stdout
        assert f"data.path = '{name}.jsonl': no such file" in done.stdout
    assert "2 of 2 points failed" in done.stderr
    assert "leeway sweep --out both tries again" in done.stderr
    assert "report" not in done.stdout
