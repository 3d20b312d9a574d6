"""``leeway plan`` answers in tables and in JSON, from lengths, from runs, from rollout times."""

import json
import math

import numpy as np
import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.ledger import Ledger
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.planning import calibrate
from leeway_rl.leeway.planning.lengths import lognormal, read_lengths
from leeway_rl.leeway.planning.plan import Drawn, fit, split
from leeway_rl.leeway.planning.simulate import System, simulate
from typer.testing import CliRunner

SMALL = "plan --groups-per-step 4 --group-size 2 --steps 6 --length-mean 100 --replicas 2"


def plan(words):
    done = CliRunner().invoke(app, words.split())
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_every_bound_and_policy_is_a_row():
    said = plan(f"{SMALL} --max-staleness 0,2 --overflow wait,mask")
    what, heads, tokens = said.split("\n\n")
    assert [line.split()[:2] for line in what.splitlines()[2:]] == [
        ["0", "wait"],
        ["0", "mask"],
        ["2", "wait"],
        ["2", "mask"],
    ]
    assert what.splitlines()[1].split()[:3] == ["η", "overflow", "steps/h"]
    assert heads.startswith("groups by head staleness:")
    assert tokens.startswith("tokens by staleness:")


def test_gpus_are_divided_at_every_bound():
    said = plan(f"{SMALL} --max-staleness 0,2 --gpus 4 --train-s 1 --train-tokens-per-s 400")
    best = said.split("\n\n")[-1].splitlines()
    assert [line.split(":")[0] for line in best] == ["best at η = 0, wait", "best at η = 2, wait"]


def test_json_says_the_same_and_more():
    (row,) = json.loads(plan(f"{SMALL} --rejected 0.3 --train-s 2 --json"))["plan"]
    assert 0 < row["steps_per_hour"] <= 1800
    assert sum(row["heads"]) == pytest.approx(1)
    assert row["tickets"]["trained"] == 24
    assert row["tickets"]["zero_advantage"] > 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--max-staleness some", "whole numbers of at least 0"),
        ("--overflow wait,hope", "some of wait, drop, mask, soft"),
        ("--pipeline-depth 3", "3 is below train.groups_per_step = 4"),
        ("--pipeline-depth deep", "auto, or a number of groups"),
        ("--rejected 1", "at least 0 and below 1"),
        ("--fit 32:375", "expected at least two times"),
        ("--fit 32=375,64=270", "32:375,64:270"),
        ("--gpus 3 --gpus-per-replica 2", "a replica of 2"),
    ],
)
def test_what_cannot_be_is_named(words, complaint):
    with pytest.raises(ConfigError, match=complaint):
        plan(f"{SMALL} {words}")


@pytest.mark.parametrize(
    "words",
    [
        *("--alone 0", "--alone 1e-320", "--alone nan", "--turnaround-s inf", "--pause-s inf", "--verify-s 1e308"),
        *("--train-s inf", "--publish-s 1e308", "--length-sigma 1e308", "--concurrency 99999999999999999999999"),
        *("--graders 99999999999999999999999", "--group-size 99999999999999999999999", "--replicas 999999999999"),
        *("--steps 99999999999999999999999", "--groups-per-step 99999999999999999999999", "--gpu-gb inf"),
    ],
)
def test_a_number_that_no_simulation_can_hold_is_refused_as_an_option(words):
    refused = CliRunner().invoke(app, ["plan", *words.split()])
    assert (refused.exit_code, words.split()[0] in refused.output) == (2, True), refused.output
    assert isinstance(refused.exception, SystemExit)


def test_lengths_are_read_from_a_file_of_numbers_or_from_a_ledger(tmp_path):
    numbers = tmp_path / "lengths.txt"
    numbers.write_text("10\n20\n30\n")
    assert set(read_lengths(numbers, group_size=4, seed=0).ravel().tolist()) == {10, 20, 30}
    numbers.write_text("10\n20.5\n")
    with pytest.raises(DataError, match=r"lengths.txt:2: '20.5' is not a length"):
        read_lengths(numbers, group_size=4, seed=0)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(DataError, match="no trained group"):
        read_lengths(ledger.path, group_size=4, seed=0)
    for ticket, lengths in enumerate(([5, 6, 7], [1, 2], [3, 4])):  # the stage before had groups of three
        ledger.write("trained", ticket=ticket, lengths=lengths)
    ledger.close()
    assert read_lengths(ledger.path, group_size=4, seed=0).tolist() == [[1, 2], [3, 4]]


def test_lognormal_lengths_have_the_mean_asked_for():
    assert lognormal(100, 0.5, 10**6, group_size=8, seed=0).mean() == pytest.approx(100, rel=0.01)
    assert lognormal(100, 0.0, 10**6, group_size=1, seed=0).tolist()[:2] == [[100], [100]]


def test_the_best_split_gives_neither_side_more_than_it_can_use():
    # A step is 32 responses of 100 tokens: 3,200 tokens. A GPU samples 100 tokens/s and trains 300: in the long run
    # rollout needs three times as many GPUs as the learner.
    system = System(
        lengths_GS=np.full((1, 1), 100),
        groups_per_step=32,
        steps=12,
        max_staleness=4,
        alone=100.0,
        concurrency=1,
        train_s=0.0,
        train_s_per_token=1 / 300,
    )
    rows = split(system, 16, 1, 1)
    best = max(rows, key=lambda row: row["steps_per_hour"])
    assert len(rows) == 15
    assert (best["learner_gpus"], best["rollout_gpus"]) == (4, 12)


def test_a_worker_is_found_from_its_rollout_times():
    lengths = lognormal(300, 0.5, 2000, group_size=1, seed=3)
    made = calibrate.fitted({4: 1.0, 8: 0.7}, lengths, 64)
    truth = System(**{name: getattr(made, name) for name in made.__slots__} | {"alone": 90.0, "peak": 700.0})
    times = {replicas: calibrate.rollout_s(truth, replicas) for replicas in (4, 8)}
    found = calibrate.fitted(times, lengths, 64)
    assert (found.alone, found.peak) == (pytest.approx(90, rel=0.01), pytest.approx(700, rel=0.01))
    assert calibrate.rollout_s(found, 16) == pytest.approx(calibrate.rollout_s(truth, 16), rel=0.01)
    with pytest.raises(DataError, match="more replicas have to be faster"):
        calibrate.fitted({4: 1.0, 8: 1.2}, lengths, 64)


def test_the_reports_rollout_times_are_predicted_within_a_tenth():
    rows = json.loads(fit("32:375,64:270", "128,256", 1024, Drawn(), as_json=True))["rollout"]
    assert [row["rollout_s"] for row in rows] == pytest.approx([375, 270, 225, 205], rel=0.1)


@pytest.fixture
def folder(tmp_path):
    """A finished run of 14 steps: 4 groups of 2 a step, one more rejected; generation takes a quarter of a step."""
    settings = ["train.steps=14", "train.groups_per_step=4", "train.group_size=2", "rollout.workers=16"]
    (tmp_path / "config.toml").write_text(dump(compose(["tiny"], settings)))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    lines = []
    for step in range(14):
        for ticket in range(4):
            ledger.write("trained", ticket=4 * step + ticket, step=step, lengths=[10, 20])
        lines.append(
            {
                "step": step,
                "reward/mean": 0.5,
                "batch/groups": 4,
                "batch/tokens": 120,
                "generated/groups": 5,
                "generated/seconds_mean": 0.25,
                "generated/grading_s_mean": 0.02,
                "refunds/zero_advantage": 1,
                "staleness/head_mean": 1.0,
                "flow/max_staleness": 1,
                "time/step_s": 1.25,
                "time/train_s": 1.0,
                "time/wait_for_batch_s": 0.05,
            }
        )
    ledger.close()
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_a_run_is_a_setting(folder):
    system = calibrate.from_run(folder).system
    assert (system.groups_per_step, system.max_staleness, system.replicas, system.concurrency) == (4, 1, 16, 1)
    assert (system.alone, system.in_flight) == (20 / 0.25, True)
    assert (system.train_s, system.publish_s) == (pytest.approx(1.0), pytest.approx(0.2))
    assert (system.rejected, system.verify_s, system.graders) == (0.2, pytest.approx(0.02), 1)
    outcome = simulate(system)
    assert outcome.generation_s / outcome.generations == pytest.approx(0.25)


def test_lengths_of_a_run_go_by_ticket_and_not_by_when_they_were_trained(folder):
    (folder / "ledger.jsonl").unlink()
    ledger = Ledger(folder / "ledger.jsonl")
    for ticket, step in ((2, 0), (0, 1), (3, 2), (1, 13)):
        ledger.write("trained", ticket=ticket, step=step, lengths=[10 + ticket, 20])
    ledger.close()
    assert calibrate.from_run(folder).system.lengths_GS[:, 0].tolist() == [10, 11, 12, 13]


def test_the_plan_of_a_run_stands_beside_the_run_and_can_be_varied(folder):
    said = plan(f"plan --from {folder}")
    assert "against the run as it was, η = 1 wait:" in said
    answers = json.loads(plan(f"plan --from {folder} --json"))
    assert answers["measured"] == {"steps_per_hour": pytest.approx(3600 / 1.25), "head_mean": 1.0}
    assert answers["plan"][0]["steps_per_hour"] == pytest.approx(3600 / 1.2, rel=0.1)
    assert answers["plan"][0]["head_mean"] == pytest.approx(1, abs=0.3)
    other = json.loads(plan(f"plan --from {folder} --max-staleness 0 --train-s 3 --json"))
    (varied,) = other["plan"]
    assert varied["steps_per_hour"] < 3600 / 1.7
    assert other["predicted"] == answers["predicted"] == answers["plan"][0], "the run is held against itself alone"
    assert other["measured"] == answers["measured"]


def test_what_a_slot_needs_between_two_groups_is_in_the_plan(folder):
    loads = [
        {"role": "rollout", "weights/load_s": 0.1, "weights/paused_s": 0.0, **between}
        for between in (
            {},
            {"generation/turnarounds": 3, "generation/turnaround_s_mean": 0.1},
            {"generation/turnarounds": 1, "generation/turnaround_s_mean": 0.5},
        )
    ]
    (folder / "workers.jsonl").write_text("".join(json.dumps(load) + "\n" for load in loads))
    assert calibrate.from_run(folder).system.turnaround_s == pytest.approx(0.2)


def test_a_shared_worker_is_calibrated_by_its_rate(folder):
    text = (folder / "config.toml").read_text().replace('engine = "torch"', 'engine = "vllm"')
    (folder / "config.toml").write_text(text)
    system = calibrate.from_run(folder).system
    assert (system.concurrency, system.alone) == (8, system.peak)
    outcome = simulate(system)
    assert outcome.generation_s / outcome.generations == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("speedup", [1.0, 16.0, math.inf])
def test_the_slowest_of_a_batch_tells_how_much_responses_slow_each_other_down(speedup):
    truth = System(
        lengths_GS=lognormal(200, 0.6, 4000, group_size=2, seed=1),
        groups_per_step=8,
        steps=20,
        max_staleness=0,
        alone=100.0,
        peak=100.0 * speedup,
    )
    outcome = simulate(truth)
    slowest_s = sum(step.generation_s for step in outcome.steps[1:]) / 19
    found = calibrate.with_speed(truth, outcome.generation_s / outcome.generations, slowest_s)
    assert (found.alone, found.peak) == (pytest.approx(100, rel=0.01), pytest.approx(100 * speedup, rel=0.01))


def test_a_run_without_what_calibration_needs_is_told_so(folder):
    path = folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("generated/seconds_mean", "generated/something"))
    with pytest.raises(DataError, match="no generated/seconds_mean: the run was made by an older version"):
        calibrate.from_run(folder)


def test_training_time_is_a_line_through_tokens_and_never_negative():
    assert calibrate.line_through([10, 20], [2.0, 3.0]) == (pytest.approx(1.0), pytest.approx(0.1))
    assert calibrate.line_through([10, 20], [3.0, 2.0]) == (2.5, 0.0)
    assert calibrate.line_through([10, 20], [0.5, 2.0]) == (0.0, pytest.approx(1.25 / 15))
    assert calibrate.line_through([10, 10], [1.0, 2.0]) == (1.5, 0.0)
