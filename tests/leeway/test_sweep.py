"""A made-up sweep goes in; tables, sentences, pictures and a page come out. And which sweeps are refused."""

import csv
import fcntl
import json
import math
import random
import re

import numpy as np
import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import ConfigError, DataError, RunExistsError
from leeway_rl.common.fingerprint import of_run_inputs
from leeway_rl.common.ledger import Ledger
from leeway_rl.leeway.sweeping.grid import axes, points
from leeway_rl.leeway.sweeping.sweep import Plan, sweep
from leeway_rl.leeway.sweeping.sweepdata import before, findings, read, write_tables

GRID = ["flow.max_staleness=0,4", "entropy.control=adaptive,none"]
PNG = b"\x89PNG\r\n\x1a\n"


def made_up_run(folder, steps=12, *, resumed_at=None, noise=0.0, seed=0, **numbers):
    """A finished run's folder whose every step has ``numbers`` (by their last part), give or take ``noise``."""
    dice, folder = random.Random(seed), folder
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(dump(compose(["tiny"], [f"train.steps={steps}"])))
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("started", incarnation=1, version=0)
    if resumed_at is not None:
        ledger.write("started", incarnation=2, version=resumed_at)
    ledger.write("end", version=steps)
    ledger.close()
    usual = {
        "reward/mean": 0.5, "entropy/policy": 0.1, "entropy/alpha": 0.0, "staleness/head_mean": 1.0,
        "staleness/token_mean": 0.8, "logprob/ess": 0.99, "policy/clip_fraction": 0.01, "response/length_mean": 20.0,
        "response/truncated_share": 0.0, "batch/groups": 16, "batch/responses": 128, "batch/tokens": 2560,
        "generated/groups": 32, "generated/length_mean": 20.0, "time/step_s": 2.0, "time/wait_for_batch_s": 0.5,
        "time/train_s": 1.4, "time/publish_s": 0.1, "time/checkpoint_s": 0.0,
    }  # fmt: skip
    usual |= {key: numbers[key.split("/")[1]] for key in usual if key.split("/")[1] in numbers}
    if "reward" in numbers:
        usual["reward/mean"] = numbers["reward"]
    if "entropy" in numbers:
        usual["entropy/policy"] = numbers["entropy"]
    lines = []
    for step in range(steps):
        line = {key: value * (1 + noise * dice.gauss(0, 1)) for key, value in usual.items()}
        if step in (0, resumed_at):  # engines start
            line["time/step_s"] += 30.0
            line["time/wait_for_batch_s"] += 30.0
        lines.append({"step": step, "version": step + 1, **line})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def made_up_sweep(folder, numbers, grid=GRID, seeds=3):
    """The sweep of ``grid`` in which a run is made of ``numbers(values of its setting, seed)``."""
    plan = Plan(axes(grid), seeds, compose(["tiny"], ["train.steps=12"]))
    folder.mkdir(parents=True, exist_ok=True)
    plan.write(folder)
    for point in plan.points():
        made_up_run(folder / "runs" / point.name, seed=point.seed, **numbers(point.setting.values, point.seed))
    return read(folder.name, folder / "runs", plan.grid, plan.points(), [])


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def setting_of(found, *values):
    return next(setting for setting in found.settings if setting.values == values)


def faster_and_flatter(values, seed):
    """Staleness 4 is twice as fast; without control there is less entropy; a seed does the same to all."""
    stale, control = values
    step_s = (2.0 if stale == "0" else 1.0) * (1 + 0.01 * seed)
    return {
        "step_s": step_s,
        "entropy": (0.15 if control == "adaptive" else 0.05) + 0.001 * seed,
        "reward": 0.5 + 0.1 * seed,
    }


def test_a_run_is_timed_without_starts_and_without_the_steps_that_nothing_is_generated_beside(tmp_path):
    point = points([], [0])[0]
    path = made_up_run(tmp_path / point.name, steps=12, resumed_at=5) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[-1] |= {"time/step_s": 0.5, "time/wait_for_batch_s": 0.0}  # of a bound of 1, the last step
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = read("some", tmp_path, [], [point], [])
    numbers, run = found.numbers[point.setting, 0], found.runs[point.setting, 0]
    assert numbers["steps_per_hour"] == pytest.approx(1800)
    assert numbers["tokens_per_s"] == pytest.approx(1280)
    assert numbers["idle_share"] == pytest.approx(0.25)
    assert run.seconds[0] == pytest.approx(1.5), "the first step counts without its wait"
    assert run.seconds[-1] == pytest.approx(9 * 2.0 + 2 * 1.5 + 0.5)


def test_the_last_third_before_a_mark():
    values, position = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0])
    assert before(values, position, 60) == 5.5
    assert before(values, position, 30) == 3
    assert before(values, position, 35) == 3
    assert before(values, position, 19) == 1, "a step longer than a third"
    assert math.isnan(before(values, position, 9))


def test_runs_of_a_seed_are_compared_where_each_has_come(tmp_path):
    grid = axes(["flow.max_staleness=0,4"])
    slow, fast = sorted(points(grid, [0]), key=lambda point: point.name)
    made_up_run(tmp_path / slow.name, steps=12, step_s=4.0, train_s=3.4, groups=8, responses=64)
    made_up_run(tmp_path / fast.name, steps=12, step_s=1.0, train_s=0.4)
    for point in (slow, fast):  # reward = the step's number
        path = tmp_path / point.name / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(line | {"reward/mean": line["step"]}) + "\n" for line in lines))
    numbers = read("some", tmp_path, grid, [slow, fast], []).numbers
    of_slow, of_fast = numbers[slow.setting, 0], numbers[fast.setting, 0]
    assert of_slow["reward"] == of_fast["reward"] == 9.5
    assert of_slow["reward_at_groups"] == 9.5, "96 groups are all that it trained"
    assert of_fast["reward_at_groups"] == 4.5, "at 96 groups the other was at its sixth step: its 5th and 6th"
    assert of_fast["reward_at_time"] == 8.5, (
        "of a bound of 1 its last step does not count: mark 10.5 s, its 8th to 11th"
    )
    assert of_slow["reward_at_time"] == 1, "at 10.5 s the slow run's steps have ended at 3.5 and 7.5 s"


def test_means_and_paired_differences_have_their_intervals(tmp_path):
    found = made_up_sweep(tmp_path / "some", faster_and_flatter)
    first, fast = setting_of(found, "0", "adaptive"), setting_of(found, "4", "adaptive")
    assert found.settings[0] == first
    assert found.mean(first, "steps_per_hour").mean == pytest.approx(np.mean([1800 / (1 + 0.01 * s) for s in range(3)]))
    assert found.mean(first, "reward").half > 0.2
    assert found.gain(fast, first, "reward").half == pytest.approx(0, abs=1e-12), "seeds are paired"
    assert found.gain(fast, first, "steps_per_hour").sign == 1


def test_what_is_shown_is_said_and_nothing_else(tmp_path):
    found = made_up_sweep(tmp_path / "some", faster_and_flatter)
    assert [setting.label for setting in found.frontier()] == ["max_staleness=4, control=adaptive"]
    text = "\n".join(findings(found))
    better = "is dominated by max_staleness=4, control=adaptive, which has"
    assert f"max_staleness=0, control=adaptive {better} +1,782 ± 44 steps/h; no difference is shown in reward" in text
    assert (
        f"max_staleness=4, control=none {better} +0.100 ± 0.000 nats of entropy; no difference is shown in ste" in text
    )


def test_a_difference_within_the_noise_is_not_called_one(tmp_path):
    dice = random.Random(1)
    found = made_up_sweep(tmp_path / "some", lambda *_: {"step_s": 2 + dice.random(), "reward": dice.random()})
    text = "\n".join(findings(found))
    assert found.frontier() == found.settings
    assert "dominated" not in text
    assert "shown against each" not in text


def test_a_trade_leaves_both_on_the_frontier(tmp_path):
    def trade(values, seed):
        return {"step_s": 1.0 if values[0] == "4" else 2.0, "reward": (0.4 if values[0] == "4" else 0.6) + 0.01 * seed}

    found = made_up_sweep(tmp_path / "some", trade, ["flow.max_staleness=0,4"])
    assert found.frontier() == found.settings
    text = "\n".join(findings(found))
    assert "max_staleness=0 (1,800 ± 0 steps/h, 0.610 ± 0.025 reward, 0.100 ± 0.000 nats of entropy)" in text
    assert "Best in reward of these by the mean: max_staleness=0; shown against each of the others." in text
    assert "Highest in entropy of these by the mean: max_staleness=0; not shown to have less: max_staleness=4." in text


def test_one_seed_shows_nothing(tmp_path):
    found = made_up_sweep(tmp_path / "some", faster_and_flatter, seeds=1)
    assert found.frontier() == found.settings
    assert findings(found) == [
        "One seed: no interval is known, so no difference is shown. The pictures show its runs as they were."
    ]


def test_the_tables_hold_every_run_and_every_step(tmp_path):
    found = made_up_sweep(tmp_path / "some", faster_and_flatter)
    write_tables(found, tmp_path)
    rows = table(tmp_path / "sweep.csv")
    assert len(rows) == 12
    row = next(row for row in rows if row["run"] == "max_staleness-4_control-none_seed-2")
    assert (row["flow.max_staleness"], row["entropy.control"], row["seed"], row["steps"]) == ("4", "none", "2", "12")
    assert float(row["steps_per_hour"]) == pytest.approx(3600 / 1.02, rel=1e-4)
    assert (float(row["entropy"]), float(row["wasted_share"])) == (0.052, 0.5)
    steps = table(tmp_path / "steps.csv")
    assert len(steps) == 12 * 12
    assert {step["reward/mean"] for step in steps if step["run"] == row["run"]} == {"0.7"}


@pytest.mark.parametrize("grid", [GRID, ["flow.max_staleness=0,4"], []])
def test_the_report_is_made_again_from_what_is_there(tmp_path, grid, capsys):
    folder = tmp_path / "some"
    made_up_sweep(folder, lambda *_: {"noise": 0.1}, grid, 2)
    (folder / "runs").rename(folder / "all")
    (folder / "runs").mkdir()
    kept = sorted((folder / "all").iterdir())[1:]
    for run in kept:
        run.rename(folder / "runs" / run.name)
    sweep([], [], [], None, folder, None, report_only=True)
    assert f"report: {folder / 'report.html'}" in capsys.readouterr().out
    page = (folder / "report.html").read_text()
    assert all((folder / name).read_bytes().startswith(PNG) for name in ("sweep.png", "frontier.png"))
    lacking = re.search(r"Not finished when this was written, and not in it: (.*?)\.<", page)
    assert lacking is not None
    assert lacking[1] == next(iter((folder / "all").iterdir())).name


def test_nothing_finished_is_nothing_to_report(tmp_path):
    made_up_sweep(tmp_path / "some", lambda *_: {}, seeds=1)
    (tmp_path / "some" / "runs").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no point is finished yet"):
        sweep([], [], [], None, tmp_path / "some", None, report_only=True)


def test_a_finished_sweep_only_makes_its_report(tmp_path, capsys):
    made_up_sweep(tmp_path / "some", faster_and_flatter, seeds=2)
    sweep(["tiny"], ["train.steps=12"], GRID, 2, tmp_path / "some", None, report_only=False)
    said = capsys.readouterr().out
    assert "finished already: 8 of 8 points" in said
    assert not (tmp_path / "some" / "logs").exists()


@pytest.mark.parametrize(
    ("presets", "settings", "grid", "complaint"),
    [
        (
            ["tiny"],
            ["train.steps=12"],
            ["flow.max_staleness=0,2", GRID[1]],
            r"--grid flow\.max_staleness was 0,4, is 0,2",
        ),
        (["tiny"], ["train.steps=12"], GRID[:1], r"--grid entropy\.control was adaptive,none, is not there"),
        (["tiny"], ["train.steps=13"], GRID, r"train\.steps was 12, is 13"),
        ([], ["train.steps=13"], [], "--set and --grid need their --preset"),
    ],
)
def test_another_sweep_in_the_same_folder_is_refused(tmp_path, presets, settings, grid, complaint):
    made_up_sweep(tmp_path / "some", faster_and_flatter, seeds=1)
    with pytest.raises(ConfigError, match=complaint):
        sweep(presets, settings, grid, 1, tmp_path / "some", None, report_only=True)


def test_a_grid_that_cannot_be_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"did you mean 'flow\.max_staleness'"):
        sweep(["tiny"], [], ["flow.max_stalenes=1"], 1, tmp_path / "some", None, report_only=False)
    with pytest.raises(ConfigError, match=r"train\.micro_batch_tokens = 8 cannot hold one longest response"):
        sweep(["tiny"], [], ["train.micro_batch_tokens=8,96"], 1, tmp_path / "some", None, report_only=False)
    assert not (tmp_path / "some").exists()


def test_a_folder_that_holds_no_sweep_is_refused(tmp_path):
    with pytest.raises(DataError, match="no sweep there to go on with"):
        sweep([], [], [], None, tmp_path / "some", None, report_only=False)
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(DataError, match="is not empty and holds no sweep"):
        sweep(["tiny"], [], GRID, 1, tmp_path, None, report_only=False)


def test_two_sweeps_in_one_folder_are_refused(tmp_path):
    made_up_sweep(tmp_path / "some", faster_and_flatter, seeds=1)
    with (tmp_path / "some" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunExistsError, match="another process is at work there"):
            sweep([], [], [], None, tmp_path / "some", None, report_only=False)


@pytest.mark.parametrize("begun", [True, False])
def test_a_sweep_goes_on_with_no_rows_that_have_changed(tmp_path, begun):
    rows, folder = tmp_path / "rows.jsonl", tmp_path / "sweep"
    rows.write_text('{"prompt": "1+1", "answer": "2"}\n')
    settings = [f"data.path={rows}", "train.steps=12"]
    base = compose(["tiny"], settings)
    folder.mkdir()
    Plan(axes(GRID), 3, base, of_run_inputs(base)).write(folder)
    assert Plan.read(folder).inputs.keys() == {"data.path", "model.path"}
    rows.write_text('{"prompt": "1+1", "answer": "3"}\n')
    words = ([], [], []) if begun else (["tiny"], settings, GRID)
    with pytest.raises(DataError, match=rf"data.path = {rows}: changed since {folder} was begun .* another --out"):
        sweep(*words, None, folder, None, report_only=False)


@pytest.mark.parametrize("begun", [True, False])
def test_a_sweep_goes_on_with_no_rewards_whose_code_has_changed(tmp_path, monkeypatch, begun):
    code, folder = tmp_path / "mine.py", tmp_path / "sweep"
    code.write_text("def f(response, row):\n    return 1.0\n")
    words = (["tiny"], [f"rewards=[{{use = '{code}:f'}}]", "train.steps=12"], GRID)
    monkeypatch.setattr("leeway_rl.leeway.sweeping.sweep.run_all", lambda *_: [])
    monkeypatch.setattr("leeway_rl.leeway.sweeping.sweep.report_of", lambda *_: folder)
    sweep(*words, 1, folder, None, report_only=False)
    sweep([], [], [], None, folder, None, report_only=False)
    code.write_text("def f(response, row):\n    return 2.0\n")
    with pytest.raises(DataError, match=rf"rewards = {code}:f: changed since {folder} was begun .* another --out"):
        sweep(*(([], [], []) if begun else words), None, folder, None, report_only=False)
