"""The benchmarks run and print their ratios; what the ratios are is for an idle machine to say."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from leeway_rl.common.config import PRESETS

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def _said(name, options, *more, codes=(0,), timeout=170):
    """What a benchmark prints, in a process of its own: they set torch's threads. Code 1: a figure was missed."""
    command = [sys.executable, str(BENCHMARKS / name), *options.split(), *more]
    # DeepSpeed, in this process, has put the tests' own ranks into the environment.
    environment = {key: value for key, value in os.environ.items() if "RANK" not in key and key != "WORLD_SIZE"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode in codes, done.stderr[-3000:]
    return done.stdout


def _number(pattern, said):
    return float(re.search(pattern, said, re.MULTILINE).group(1))


def test_the_hand_over_prints_a_line_of_ratios_for_every_size(redis_url, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hand_over.py", "--url", redis_url, "--rounds", "1", "--groups", "2"])
    runpy.run_path(str(BENCHMARKS / "hand_over.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.findall(r"^(\w+)(?: +[\d.,]+){8}$", said, re.MULTILINE) == ["tiny", "smollm2", "7B"]


def test_a_long_ledger_costs_no_more_to_open_than_a_short_one():
    said = _said("long_ledger.py", "--lines 2000 --rounds 1", codes=(0, 1))  # 1: a second of a busy machine
    assert re.findall(r"^(\w+) +short.* long ", said, re.MULTILINE) == ["status", "opening"]
    assert re.findall(r"^audit +(\w+) \d+ MiB", said, re.MULTILINE) == ["short", "long"]


@pytest.mark.slow
def test_the_entropy_benchmark_judges_its_runs_which_are_too_short_here(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "entropy_control.py"), "--out", str(tmp_path)]
    done = subprocess.run([*command, "--seeds", "0", "--steps", "3"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr[-3000:]
    assert re.findall(r"^(none|adaptive) +0 .* (?:yes|NO) ", done.stdout, re.MULTILINE) == ["none", "adaptive"]
    assert {path.name for path in tmp_path.iterdir()} == {"none-0.csv", "adaptive-0.csv", "entropy.png"}


def test_the_token_op_is_compared_with_whole_logits():
    said = _said("token_op.py", "--vocabulary 997 --hidden 16 --tokens 300 --flat 300 --rounds 1 --threads 1")
    differences = re.search(
        r"^largest difference +log-prob (\S+) +entropy (\S+) +by hidden (\S+) +by weight (\S+)", said, re.M
    )
    assert all(float(found) < 1e-5 for found in differences.groups())
    assert _number(r"^extra memory GB .* ([\d.]+) +\(must hold: 0.15\)", said) > 0
    assert _number(r"^time s .* ([\d.]+) +\(must hold: 1.15\)", said) > 0


def test_a_long_response_is_trained_with_the_real_vocabulary():
    said = _said("long_response.py", "--tokens 512 --threads 1")
    assert _number(r"peak ([\d.]+) GiB", said) < 6
    assert _number(r"entropy ([\d.]+)", said) == pytest.approx(11.93, abs=0.1)  # log 151,936: the weights are random


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_trl_and_this_learner_find_the_same_loss_and_gradient():
    pytest.importorskip("trl")
    model = PRESETS / "tiny" / "model"
    said = _said("against_trl.py", "--rounds 0 --threads 1 --model", str(model))
    theirs, ours = re.search(r"loss (-?[\d.]+) and (-?[\d.]+)", said).groups()
    assert theirs == ours
    assert _number(r"gradients (\S+) apart", said) < 1e-4


def test_the_math_verifier_prints_its_ratio_and_finds_the_same_verdicts(monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)  # it would pin the tests that follow
    monkeypatch.setattr(sys, "argv", ["math_verifier.py", "--rounds", "1", "--items", "40"])
    runpy.run_path(str(BENCHMARKS / "math_verifier.py"), run_name="__main__")
    assert re.search(r"^ratio [\d.]+ \(at least 3\); 0 of 40 verdicts differ$", capsys.readouterr().out, re.MULTILINE)


def test_many_mixed_jobs_are_counted_after():
    said = json.loads(_said("code_leaks.py", "--jobs 40 --seats 1"))
    assert (said["jobs"], said["errors"], set(said["left"].values())) == (40, 0, {0})


def test_the_code_grader_takes_turns_with_another_harness(tmp_path):
    """In the place of the checkout, a harness that passes everything at once."""
    package = tmp_path / "lcb_runner" / "evaluation"
    package.mkdir(parents=True)
    (package / "compute_code_generation_metrics.py").write_text(
        "def evaluate_generations(samples, generations, num_process_evaluate):\n"
        "    return {n: [[True]] for n in range(len(samples))}, {}\n"
    )
    said = _said("code_throughput.py", "--tests 2 --repeat 1 --rounds 1", str(tmp_path))
    assert _number(r"^ +2 +[\d.]+ +([\d.]+) +[\d.]+$", said) > 0
    assert _number(r"one more test costs (-?[\d.]+) ms", said) < 1000


def test_mutated_messages_are_refused_or_decode_within_their_bounds():
    said = _said("fuzz_codec.py", "--messages 6000 --seed 1")
    assert _number(r"^([\d,]+) mutated messages in", said.replace(",", "")) == 6000
    for name in ("Ticket", "Responses", "Scores", "Heartbeat", "record", "weights"):
        assert re.search(rf"^{name} refused +[1-9]", said, re.M), said


def test_near_duplicates_are_counted_and_timed_beside_datasketch():
    for planted_by in ("this", "other"):
        said = _said("near_duplicates.py", f"--problems 300 --planted-by {planted_by}")
        assert _number(r"^recall ([\d.]+) \(must hold: 0.98\)$", said) >= 0.98
        assert _number(r"^precision ([\d.]+) \(must hold: 0.98\)$", said) >= 0.98
    pytest.importorskip("datasketch")
    said = _said("near_duplicates.py", "--problems 100 --against-datasketch")
    assert _number(r"^ratio ([\d.]+) \(must hold: 2\)$", said) > 0


def _rows(said, first, numbers):
    """The lines that begin with ``first``: of each the last ``numbers`` words, as numbers."""
    lines = [line.split() for line in said.splitlines() if re.match(first, line.strip())]
    return [[float(word.strip("%s")) for word in line[-numbers:]] for line in lines]


def test_rollout_and_training_overlap_in_a_timed_run():
    said = _said("overlap.py", "--train-s 0.5 --steps 7 --ratios 1 --bounds 0 1 --side-by-side 3", codes=(0, 1))
    rows = _rows(said, r"0\.5s", 5)
    assert [row[0] for row in rows] == [1.0, 0.5, 0.5]  # what is ideal: in turns at η = 0, then side by side
    assert all(0.3 < share < 1.05 for _, _, share, _, _ in rows)
    assert [head for *_, head in rows] == [0, 1, 1]


def test_a_timed_run_masks_what_another_trains_past_the_bound():
    said = _said("overflow_policies.py", "--train-s 0.5 --steps 7 --bounds 1 --policies mask soft", codes=(0, 1))
    mask, soft = (_rows(said, rf"1 +{policy} +measured", 8)[0] for policy in ("mask", "soft"))
    *_, masked, past, trained, _ = mask
    assert (masked > 5, past > 0, trained) == (True, True, 0)
    *_, masked, past, trained, _ = soft
    assert (masked, past > 0, trained > 0) == (0, True, True)


def test_runs_are_held_against_their_plans():
    said = _said("plan_against_runs.py", "--only on-policy soft-2-busy --steps 8 --step-s 0.5", codes=(0, 1))
    rows = _rows(said, r"(on-policy|soft-2-busy) ", 6)
    assert len(rows) == 2 * 2
    assert all(abs(error) < 60 and abs(older) < 1.5 for _, _, error, _, _, older in rows)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_short_soak_is_flat_and_draws_its_picture(tmp_path):
    said = _said("soak.py", "--groups 960 --every 0.1 --out", str(tmp_path))
    assert "audit passed" in said
    assert _number(r"^learner\.rss +([\d.]+) ", said) > 50
    assert {path.name for path in tmp_path.iterdir()} == {"soak.csv", "soak.png"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_learner_killed_at_some_of_its_writes_ends_as_one_left_alone():
    said = _said("killed_learner.py", "--every 40 --transports file --side-by-side 3", timeout=280)
    assert _number(r"^file +(\d+) points of a learner left alone", said) > 100
    assert _number(r"kills, (\d+) ended otherwise", said) == 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the roles need a core each")
def test_the_gain_of_one_version_is_held_against_what_the_times_allow():
    small = "--set train.groups_per_step=4 --set train.group_size=4"
    (row,) = _rows(_said("async_gain.py", f"--rounds 1 --steps 7 {small}", codes=(0, 1)), "mean", 7)
    rollout_s, train_s, serial_s, overlapped_s, gain, allowed, share = row
    assert serial_s == pytest.approx(rollout_s + train_s, abs=0.02)
    assert gain == pytest.approx(serial_s / overlapped_s, rel=0.15)  # of figures with two decimals
    assert share == pytest.approx(gain / allowed, abs=0.05)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a core for the training and one for the follower")
def test_the_follower_benchmark_prints_a_ratio(tmp_path):
    options = "--rounds 1 --steps 6 --problems 4 --set train.groups_per_step=4"
    said = _said("follower_cost.py", options, "--out", str(tmp_path), codes=(0, 1))
    assert _number(r"^ratio of the means ([\d.]+)", said) > 0
    assert _number(r"^ +0 +[\d.]+ +[\d.]+ +[\d.]+ +(\d+)$", said) >= 1
