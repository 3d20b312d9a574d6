"""The benchmarks run and print their ratios; what the ratios are is for an idle machine to say."""

import json
import os
import re
import runpy
import sys
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from leeway_rl.benchmarks.gpu_check import __main__ as gpu_check
from leeway_rl.benchmarks.gpu_check import learner as learner_part
from leeway_rl.benchmarks.gpu_check.figures import Figure
from leeway_rl.benchmarks.long_ledger import MOST_BYTES
from leeway_rl.benchmarks.measure import Table, in_turns
from leeway_rl.benchmarks.paired_runs import run
from leeway_rl.common.config import PRESETS
from leeway_rl.leeway.planning.arithmetic import Gpu, learner_bytes, shape_of
from transformers import Qwen2Config

from tests.programs import number, rows, said_by

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.timeout(900)


def test_each_way_is_first_as_often_as_any_other():
    order = []
    ways = {name: lambda number, name=name: order.append((number, name)) or number for name in "ab"}
    assert list(in_turns(2, ways, warm_up=1)) == [{"a": 0, "b": 0}, {"b": 1, "a": 1}]
    assert order == [(-1, "b"), (-1, "a"), (0, "a"), (0, "b"), (1, "b"), (1, "a")]


def test_a_line_of_a_table_stands_under_its_head(capsys):
    table = Table("way:<8", "step s:.2f", "share:+7.1%", "so far:,d")
    table.line("ours", 1.5, 0.125, 12345)
    table.line("theirs", 22.25)
    assert capsys.readouterr().out.splitlines() == [
        "way       step s    share  so far",
        "ours        1.50   +12.5%  12,345",
        "theirs     22.25",
    ]


def test_the_hand_over_prints_a_line_of_ratios_for_every_size(redis_url, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hand_over.py", "--url", redis_url, "--rounds", "1", "--groups", "2"])
    runpy.run_path(str(BENCHMARKS / "hand_over.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.findall(r"^(\w+)(?: +[\d.,]+){8}$", said, re.MULTILINE) == ["tiny", "smollm2", "7B"]


def test_a_long_ledger_costs_no_more_to_open_than_a_short_one():
    # code 1: a second of a busy machine
    said = said_by(BENCHMARKS / "long_ledger.py", "--lines 2000 --rounds 1", codes=(0, 1))
    read = re.search(r"^opening, bytes read +([\d,]+) +([\d,]+)$", said, re.M).groups()
    assert max(int(count.replace(",", "")) for count in read) <= MOST_BYTES
    assert [len(rows(said, what, 2)) for what in ("status, s ", "audit, s ", "audit, MiB ")] == [1, 1, 1]


@pytest.mark.slow
def test_the_entropy_benchmark_judges_its_runs_which_are_too_short_here(tmp_path):
    said = said_by(BENCHMARKS / "entropy_control.py", "--seeds 0 --steps 3", "--out", str(tmp_path), codes=(1,))
    assert re.findall(r"^(none|adaptive) +0 .* (?:yes|NO) ", said, re.MULTILINE) == ["none", "adaptive"]
    assert {path.name for path in tmp_path.iterdir()} == {"none-0.csv", "adaptive-0.csv", "entropy.png"}


def test_the_token_op_is_compared_with_whole_logits():
    said = said_by(
        BENCHMARKS / "token_op.py", "--vocabulary 997 --hidden 16 --tokens 300 --flat 300 --rounds 1 --threads 1"
    )
    differences = re.search(
        r"^largest difference +log-prob (\S+) +entropy (\S+) +by hidden (\S+) +by weight (\S+)", said, re.M
    )
    assert all(float(found) < 1e-5 for found in differences.groups())
    assert number(r"^extra memory GB .* ([\d.]+) +\(must hold: 0.15\)", said) > 0
    assert number(r"^time s .* ([\d.]+) +\(must hold: 1.15\)", said) > 0


def test_a_version_is_timed_stage_by_stage_and_the_learners_idle_time_in_turns():
    words = "--parameters 2000000 --products 1 --rounds 1"
    said = said_by(BENCHMARKS / "weights.py", words, codes=(0, 1))  # code 1: a busy machine
    assert [len(rows(said, threads + r"( +[\d.]+){5}$", 5)) for threads in "12"] == [1, 1]
    assert number(r"^threads / processes  ratio ([\d.]+)", said) >= 0  # of two decimals
    assert [len(rows(said, way + r" +[\d.]+ +[\d.]+$", 2)) for way in ("before", "on the step", "off the step")] == [
        1,
        1,
        1,
    ]


@pytest.mark.slow
def test_a_checkpoint_is_written_beside_a_step_and_on_it():
    said = said_by(BENCHMARKS / "checkpoint_beside.py", "--rounds 1", codes=(0, 1))  # code 1: a busy machine
    assert number(r"^median ratio held up ([\d.]+)", said) >= 0  # of two decimals
    assert len(rows(said, r"0( +[\d.]+){6}$", 6)) == 1


@pytest.mark.slow
def test_steps_are_made_beside_a_copy_of_a_checkpoint():
    said = said_by(BENCHMARKS / "copy_beside.py", "--rounds 1", codes=(0, 1))  # code 1: a busy machine
    assert number(r"ratio to none: steps folder ([\d.]+)", said) > 0
    assert len(rows(said, r"0( +[\d.]+){7}$", 7)) == 1


def test_ranks_in_lockstep_seldom_wait_at_the_sizes_of_the_presets():
    """Arithmetic, so its figures hold on any machine: 20 seeds of each stage."""
    said = said_by(BENCHMARKS / "packing.py", "")
    found = {way: rows(said, rf"\S+ +\d+ +{way} ", 5) for way in ("before", "now")}
    assert [len(each) for each in found.values()] == [4, 4]
    for (before, *_), (mean, least, *_) in zip(found["before"], found["now"], strict=True):
        assert 1 >= mean >= least >= 0.93 > before


def test_a_long_response_is_trained_with_the_real_vocabulary():
    said = said_by(BENCHMARKS / "long_response.py", "--tokens 512 --threads 1")
    assert number(r"peak ([\d.]+) GiB", said) < 6
    assert number(r"entropy ([\d.]+)", said) == pytest.approx(11.93, abs=0.1)  # log 151,936: the weights are random


@pytest.mark.slow
def test_trl_and_this_learner_find_the_same_loss_and_gradient():
    pytest.importorskip("trl")
    model = PRESETS / "tiny" / "model"
    said = said_by(BENCHMARKS / "against_trl.py", "--rounds 0 --threads 1 --model", str(model))
    theirs, ours = re.search(r"loss (-?[\d.]+) and (-?[\d.]+)", said).groups()
    assert theirs == ours
    assert number(r"gradients (\S+) apart", said) < 1e-4


def test_the_math_verifier_prints_its_ratio_and_finds_the_same_verdicts(monkeypatch, capsys):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None)  # it would pin the tests that follow
    monkeypatch.setattr(sys, "argv", ["math_verifier.py", "--rounds", "1", "--items", "40"])
    runpy.run_path(str(BENCHMARKS / "math_verifier.py"), run_name="__main__")
    assert re.search(r"^ratio [\d.]+ \(at least 3\); 0 of 40 verdicts differ$", capsys.readouterr().out, re.MULTILINE)


def test_the_code_grader_takes_turns_with_another_harness(tmp_path):
    """In the place of the checkout, a harness that passes everything at once."""
    package = tmp_path / "lcb_runner" / "evaluation"
    package.mkdir(parents=True)
    (package / "compute_code_generation_metrics.py").write_text(
        "def evaluate_generations(samples, generations, num_process_evaluate):\n"
        "    return {n: [[True]] for n in range(len(samples))}, {}\n"
    )
    said = said_by(BENCHMARKS / "code_throughput.py", "--tests 2 --repeat 1 --rounds 1", str(tmp_path))
    assert number(r"^ +2 +[\d.]+ +([\d.]+) +[\d.]+$", said) > 0
    assert number(r"one more test costs (-?[\d.]+) ms", said) < 1000


def test_near_duplicates_are_counted_and_timed_beside_datasketch():
    for planted_by in ("this", "other"):
        said = said_by(BENCHMARKS / "near_duplicates.py", f"--problems 300 --planted-by {planted_by}")
        assert number(r"^recall ([\d.]+) \(must hold: 0.98\)$", said) >= 0.98
        assert number(r"^precision ([\d.]+) \(must hold: 0.98\)$", said) >= 0.98
    pytest.importorskip("datasketch")
    said = said_by(BENCHMARKS / "near_duplicates.py", "--problems 100 --against-datasketch")
    assert number(r"^ratio ([\d.]+) \(must hold: 2\)$", said) > 0


def test_rollout_and_training_overlap_in_a_timed_run():
    said = said_by(
        BENCHMARKS / "overlap.py", "--train-s 0.5 --steps 7 --ratios 1 --bounds 0 1 --side-by-side 3", codes=(0, 1)
    )
    found = rows(said, r"0\.5 ", 5)
    assert [row[0] for row in found] == [1.0, 0.5, 0.5]  # what is ideal: in turns at η = 0, then side by side
    # Where the learner is held up just before the first step that counts, rollout has begun that step's groups.
    assert all(0 < share < 1.2 for _, _, share, _, _ in found)
    on_policy, *beside = (head for *_, head in found)
    assert on_policy == 0
    assert all(0 < head <= 1 for head in beside)  # 1 where no worker is held up between two groups


def test_a_timed_run_masks_what_another_trains_past_the_bound():
    said = said_by(
        BENCHMARKS / "overflow_policies.py", "--train-s 0.5 --steps 7 --bounds 1 --policies mask soft", codes=(0, 1)
    )
    mask, soft = (rows(said, rf"1 +{policy} +measured", 8)[0] for policy in ("mask", "soft"))
    *_, masked, past, trained, _ = mask
    assert (masked > 1, past > 0, trained) == (True, True, 0)
    *_, masked, past, trained, _ = soft
    assert (masked, past > 0, trained > 0) == (0, True, True)


def test_runs_are_held_against_their_plans():
    said = said_by(
        BENCHMARKS / "plan_against_runs.py", "--only on-policy soft-2-busy --steps 8 --step-s 0.5", codes=(0, 1)
    )
    found = rows(said, r"(on-policy|soft-2-busy) ", 6)
    assert len(found) == 2 * 2
    assert all(error > -100 and isfinite(older) for _, _, error, _, _, older in found)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the roles need a core each")
def test_the_gain_of_one_version_is_held_against_what_the_times_allow():
    small = "--set train.groups_per_step=4 --set train.group_size=4"
    (row,) = rows(said_by(BENCHMARKS / "async_gain.py", f"--rounds 1 --steps 7 {small}", codes=(0, 1)), "mean", 7)
    rollout_s, train_s, serial_s, overlapped_s, gain, allowed, share = row
    assert serial_s == pytest.approx(rollout_s + train_s, abs=0.02)
    half = 0.005  # what is printed has two decimals, and on a fast machine not many more digits
    least, most = (serial_s - half) / (overlapped_s + half), (serial_s + half) / (overlapped_s - half)
    assert least - half <= gain <= most + half
    assert share == pytest.approx(gain / allowed, abs=0.05)


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a core for the training and one for the follower")
def test_the_follower_benchmark_prints_a_ratio(tmp_path):
    options = "--rounds 1 --steps 6 --problems 4 --set train.groups_per_step=4"
    said = said_by(BENCHMARKS / "follower_cost.py", options, "--out", str(tmp_path), codes=(0, 1))
    assert number(r"^ratio of the means ([\d.]+)", said) > 0
    assert number(r"^ +0 +[\d.]+ +[\d.]+ +[\d.]+ +(\d+)$", said) >= 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs a core for the training and one for the viewers")
def test_the_benchmark_of_viewers_prints_a_ratio_and_what_a_look_costs(tmp_path):
    options = "--rounds 1 --steps 6 --viewers 3 --set train.groups_per_step=4"
    said = said_by(BENCHMARKS / "watch_viewers.py", options, "--out", str(tmp_path), codes=(0, 1))
    assert number(r"^ratio of the means ([\d.]+)", said) > 0
    assert 1 <= number(r"^ +0 +[\d.]+ +[\d.]+ +[\d.]+ +([\d.]+)", said) < 40


def test_the_benchmark_of_own_rewards_prints_a_rate_of_each_way():
    said = said_by(BENCHMARKS / "own_rewards.py", "--rounds 1 --groups 60")
    found = re.search(r"^median one ([\d,]+), group ([\d,]+), async ([\d,]+), again ([\d,]+) ", said, re.M)
    assert all(int(rate.replace(",", "")) > 0 for rate in found.groups())


@pytest.mark.slow
def test_a_checkout_is_paired_with_itself():
    said = said_by(BENCHMARKS / "paired_grading.py", f"{BENCHMARKS.parent} --rounds 3 --items 20")
    lowest, highest = re.search(r"95 % interval ([\d.]+) to ([\d.]+) over 3 pairs", said).groups()
    assert 0 < float(lowest) < float(highest)


def test_a_command_is_paired_with_that_of_the_same_checkout():
    words = f"--rounds 3 --warm-up 0 {BENCHMARKS.parent} up --help"
    said = said_by(BENCHMARKS / "paired_runs.py", words)
    lowest, highest = re.search(r"in all: .* 95 % interval ([\d.]+) to ([\d.]+) over 3 pairs", said).groups()
    assert 0 < float(lowest) < float(highest)


@pytest.mark.slow
def test_a_run_of_a_pair_has_all_of_its_times(tmp_path):
    (tmp_path / "leeway_rl").symlink_to(BENCHMARKS.parent, target_is_directory=True)
    found = run(tmp_path, ["up", "--preset", "tiny", "--set", "train.steps=3"], tmp_path / "runs")
    whole, processor, first, step, idle = found
    assert whole > first > 0
    assert processor > 0
    assert step > idle > 0


def test_a_bound_of_the_check_for_a_gpu_holds_up_to_its_value_and_nan_is_never_within_one():
    seen = {value: Figure(what="w", value=value, at_least=0.9, at_most=1.1).holds for value in (0.89, 0.9, 1.1, 1.2)}
    assert seen == {0.89: False, 0.9: True, 1.1: True, 1.2: False}
    assert Figure(what="w", value=3, at_most=2).holds is False
    assert Figure(what="w", value=3, at_least=2).holds is True
    for bounds in ({"at_most": 1.0}, {"at_least": 0.0}, {"at_least": 0.0, "at_most": 1.0}):
        assert Figure(what="w", value=float("nan"), **bounds).holds is False
    assert Figure(what="for the record", value=float("nan")).holds is None


def test_a_figure_of_the_check_comes_back_from_the_file_as_it_was():
    figure = Figure(what="w", value=0.5, unit="s", at_most=1.0)
    assert Figure.from_json(json.loads(json.dumps(figure.as_json()))) == figure
    assert figure.bounds == "≤ 1"


def test_the_check_for_a_gpu_asks_for_one_also_where_torch_is_built_for_them(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check"])
    with pytest.raises(SystemExit, match="there is no GPU here"):
        gpu_check.main()


def test_the_check_for_a_gpu_goes_through_all_of_its_parts_at_small_sizes(tmp_path):
    out, parts = tmp_path / "check.json", [part.name for part in gpu_check.PARTS if part.name != "engine"]
    words = ["-m", "leeway_rl.benchmarks.gpu_check", "--small", "--out"]
    said = said_by(words[0], " ".join(words[1:]), str(out), *(f"--only={part}" for part in parts))
    assert said.splitlines()[-1] == "everything holds"
    found = json.loads(out.read_text())
    assert (found["held"], found["size"], found["machine"]["torch"]) == (True, "small", torch.__version__)
    assert [part["part"] for part in found["parts"]] == parts
    assert all(len(part["figures"]) >= 3 for part in found["parts"])
    bounded = {part["part"] for part in found["parts"] for figure in part["figures"] if figure["holds"]}
    assert bounded == {"token-op", "attention", "weights"}  # nobody counts a CPU's allocations


def test_the_peak_of_the_checks_learner_is_held_against_the_dry_runs(tmp_path, monkeypatch):
    keys, prompt, response = learner_part.SIZES["full"]
    Qwen2Config(**keys, architectures=["Qwen2ForCausalLM"]).save_pretrained(tmp_path)
    config, card = (
        learner_part.config_of(tmp_path, 3, prompt, response),
        SimpleNamespace(name="H100", total_memory=8e10),
    )
    worked_out = learner_bytes(config, shape_of(str(tmp_path)), Gpu())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    held = {}
    for share in (0.85, 1.05, 1.15):
        monkeypatch.setattr(learner_part, "peak", lambda share=share: 1e9 + share * worked_out)
        *_, ratio = learner_part.peak_beside_the_dry_runs("ZeRO 3", 10**9, config, shape_of(str(tmp_path)))
        held[share] = ratio.holds
    assert held == {0.85: False, 1.05: True, 1.15: False}


def test_a_part_of_the_check_that_fails_is_reported_and_fails_the_check(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, "PARTS", (gpu_check.Part("unknown", "nothing"),))
    monkeypatch.setattr(sys, "argv", ["gpu_check", "--small", "--out", str(tmp_path / "check.json")])
    assert gpu_check.main() == 1
    assert re.search(r"^unknown +failed: ", capsys.readouterr().out, re.M)
    assert json.loads((tmp_path / "check.json").read_text())["held"] is False


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_check_for_a_gpu_takes_a_version_in_flight_and_kills_an_engine():
    said = said_by("-m", "leeway_rl.benchmarks.gpu_check --small --only engine")
    assert number(r"^engine +versions in the responses under way +(\d+)", said) >= 2
    assert number(r"^engine +left after kill -9, of what it held +([\d.e-]+)", said) <= 0.02
