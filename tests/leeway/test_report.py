"""A made-up run of any length goes in; a picture and a page come out."""

import base64
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
from leeway_rl.common.config import compose, dump
from leeway_rl.common.errors import DataError
from leeway_rl.common.ledger import Ledger
from leeway_rl.leeway.reporting.report import write_report
from leeway_rl.leeway.reporting.rundata import REQUIRED

PNG = b"\x89PNG\r\n\x1a\n"
GROUPS, SIZE, FULL_BYTES = 16, 8, 2_900_000


def made_up_run(folder: Path, steps: int, *, resumed_at: int | None = None, bound: int = 1) -> Path:
    """A run folder as a learner leaves it, with curves that look like those of presets/tiny.toml."""
    folder.mkdir()
    config = compose(["tiny"], [f"train.steps={max(steps, 1)}", f"flow.max_staleness={bound}"])
    (folder / "config.toml").write_text(dump(config))
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.write("run", run=folder.name, steps=steps)
    ledger.write("started", incarnation=1, version=0)
    lines = made_up_lines(steps, bound)
    for line in lines:
        if line["step"] == resumed_at:
            ledger.write("refunded", ticket=10**6, version=resumed_at, reason="poison")  # undone by the next line
            ledger.write("rolled_back", to_line=ledger.line - 1)
            ledger.write("started", incarnation=2, version=resumed_at)
        for _ in range(line["refunds/zero_advantage"]):
            ledger.write("refunded", ticket=ledger.line, version=line["step"], reason="zero_advantage")
    ledger.write("end", version=steps)
    ledger.close()
    loads = [{"role": "rollout", "version": n, "weights/load_s": 0.05, "weights/paused_s": 0.01} for n in range(steps)]
    write_lines(folder / "workers.jsonl", loads)
    write_lines(folder / "metrics.jsonl", lines)
    return folder


def made_up_lines(steps: int, bound: int) -> list[dict[str, Any]]:
    dice, coefficient, lines, at, drift = random.Random(7), 0.0, [], 1_790_000_000.0, 0.9
    for step in range(steps):
        entropy = abs(drift + dice.gauss(0, 0.008))
        length = 34 + 9 * math.exp(-step / 20) + dice.gauss(0, 1.2)
        refunded = int(dice.expovariate(1 / (3 + min(step, 200) / 25)))
        reward = min(0.97, max(0.02, 0.85 / (1 + math.exp((38 - step) / 11)) + dice.gauss(0.04, 0.04)))
        wait, train = max(0.0, dice.gauss(0.25, 0.15)) + (9.0 if step == 0 else 0), abs(dice.gauss(0.62, 0.05))
        checkpoint = 0.4 if step % 20 == 19 else 0.0
        step_s, tokens = wait + train + checkpoint + 0.09, int(length * GROUPS * SIZE)
        ages = dict.fromkeys(range(bound + 1), 0) if step else {0: 0}
        for _ in range(GROUPS):
            ages[min(max(ages), int(dice.random() < 0.8) + int(dice.random() < 0.15))] += 1
        at += step_s
        lines.append(
            {
                "role": "learner", "step": step, "version": step + 1, "at": at,
                "reward/mean": reward, "reward/trained_mean": 0.5 + 0.55 * (reward - 0.5),
                "generated/groups": GROUPS + refunded, "generated/length_mean": 0.98 * length,
                "entropy/policy": entropy, "entropy/target": 0.15, "entropy/coefficient": coefficient,
                "entropy/alpha": coefficient if entropy <= 0.15 else 0.0,
                "batch/groups": float(GROUPS), "batch/responses": float(GROUPS * SIZE), "batch/tokens": float(tokens),
                "response/length_mean": length, "response/length_max": 64.0,
                "response/truncated_share": 0.06 * math.exp(-step / 20), "policy/clip_fraction": 0.004,
                "logprob/abs_diff_mean": abs(dice.gauss(0.021, 0.004)) * (step > 0) + 1e-6,
                "logprob/abs_diff_max": abs(dice.gauss(0.6, 0.2)) * (step > 0) + 1e-5, "logprob/ess": 0.998,
                "staleness/head_mean": sum(age * count for age, count in ages.items()) / GROUPS,
                "staleness/head_max": float(max(age for age, count in ages.items() if count)),
                "staleness/token_mean": 0.7, "refunds/zero_advantage": refunded, "refunds/poison": int(step == 41),
                "refunds/orphaned": 0, **{f"staleness/head_count_{age}": n for age, n in ages.items() if n},
                "flow/max_staleness": bound, "flow/live": GROUPS * (bound + 1), "flow/ready": 4,
                "weights/payload_bytes": FULL_BYTES if step % 20 == 19 else FULL_BYTES // 30,
                "weights/full_bytes": FULL_BYTES, "time/step_s": step_s, "time/wait_for_batch_s": wait,
                "time/train_s": train, "time/publish_s": 0.06, "time/checkpoint_s": checkpoint,
                "throughput/rollout_tokens_per_s": length * SIZE * (GROUPS + refunded) / step_s,
                "throughput/learner_tokens_per_s": tokens / step_s,
                "throughput/learner_tokens_per_s_per_gpu": tokens / step_s,
                "throughput/rollout_tokens_per_s_per_gpu": length * SIZE * (GROUPS + refunded) / step_s / 2,
                "throughput/learner_tflops_per_gpu": 400 / train, "throughput/mfu": 0.25 / train,
                "throughput/hfu": 0.32 / train, "memory/device_peak_bytes": 61e9 + 1e9 * dice.random(),
                "memory/host_peak_bytes": 41e9, "memory/host_peak_bytes/rank_0": 33e9, "memory/rollout_bytes": 12e9,
            }
        )  # fmt: skip
        drift += 0.05 * (0.02 - drift) + (0.4 * coefficient if entropy <= 0.15 else 0)
        coefficient = round(max(0.0, coefficient + (0.005 if entropy < 0.15 else -0.005)), 12)
    return lines


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def row(page: Path, label: str) -> str:
    found = re.search(rf'<th scope="row">{re.escape(label)}</th><td>(.*?)</td>', page.read_text())
    assert found is not None, label
    return found[1]


@pytest.mark.parametrize("steps", [1, 3, 200])
def test_a_run_of_any_length_gives_a_picture_and_a_page_that_holds_it(tmp_path: Path, steps: int) -> None:
    page = write_report(made_up_run(tmp_path / "some-run", steps))
    picture = (page.parent / "report.png").read_bytes()
    assert page.name == "report.html"
    assert picture.startswith(PNG)
    assert base64.b64encode(picture).decode() in page.read_text()
    assert row(page, "training steps") == f"{steps} of {steps}, complete"


def test_the_summary_is_what_the_lines_add_up_to(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "run", 20)
    lines = made_up_lines(20, 1)
    for line in lines:
        line |= {"reward/mean": 0.25 if line["step"] < 10 else 0.75, "time/step_s": 2.0, "time/wait_for_batch_s": 0.5}
    write_lines(folder / "metrics.jsonl", lines)
    page = write_report(folder)
    assert row(page, "reward, first and last 10 steps") == "0.250 → 0.750"
    assert row(page, "groups trained").startswith("320, 2,560 responses")
    assert row(page, "learner&#39;s time spent waiting") == "25 %"
    assert row(page, "time in training steps") == "0:00:40"
    assert row(page, "bytes a version, share of full") == "mean 8.2 %, median 3.3 % of 2.9 MB"
    assert re.fullmatch(r"6\d\.\d GB, 41\.0 GB", row(page, "learner&#39;s device and host, at most"))
    assert re.fullmatch(r"\d\d %, \d\d %", row(page, "MFU, and HFU, of the time that trains"))
    assert "learner, tokens a second a device, median" in page.read_text()


def test_refunds_that_a_resume_undid_are_not_counted(tmp_path: Path) -> None:
    page = write_report(made_up_run(tmp_path / "run", 6, resumed_at=4))
    assert row(page, "resumed at step") == "4"
    assert "refunded: poison" not in page.read_text()


def test_a_fork_says_where_it_comes_from_and_counts_its_own_steps(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "run", 6)
    (folder / "ledger.jsonl").unlink()
    origin = {"run": "parent", "step": 4, "checksum": "ab" * 32, "ledger_line": 9, "chain": "0" * 16}
    ledger = Ledger(folder / "ledger.jsonl")
    lineage = [{**origin, "changed": {"objective.kl_beta": [0.0, 0.001]}}]
    ledger.write("run", run="run", steps=6, lineage=lineage)
    ledger.write("end", version=6)
    ledger.close()
    page = write_report(folder)
    due = "run parent, step 4 (weights abababababab); objective.kl_beta 0.0 -&gt; 0.001"
    assert row(page, "forked from") == due
    assert row(page, "training steps").startswith("6 of 2")  # the made-up metrics have all six
    assert "forked from parent at step 4" in page.read_text()


def test_stages_that_were_reached_are_told(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "run", 12)
    stages = "stages=[{from_step=4,group_size=16,online_filter=true},{from_step=40,group_size=4}]"
    (folder / "config.toml").write_text(dump(compose(["tiny"], [stages])))
    page = write_report(folder)
    assert row(page, "stage 2, from step 4") == "group_size 16, online_filter true"
    assert "stage 3" not in page.read_text()


def test_groups_past_the_bound_of_their_step_are_counted(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "run", 5)
    lines = made_up_lines(5, 1)
    lines[3] |= {"staleness/head_count_0": 0, "staleness/head_count_1": 13, "staleness/head_count_4": 3}
    write_lines(folder / "metrics.jsonl", lines)
    assert row(write_report(folder), "groups past the bound of their step") == "3 of 80"


def test_the_length_of_all_generated_weighs_each_step_by_its_groups(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "run", 2)
    first, second = made_up_lines(2, 1)
    first |= {"generated/groups": 30, "generated/length_mean": 10.0}
    second |= {"generated/groups": 10, "generated/length_mean": 50.0}
    write_lines(folder / "metrics.jsonl", [first, second])
    assert row(write_report(folder), "all generated, mean tokens").startswith("20 ")


def test_lines_with_the_required_keys_alone_are_enough(tmp_path: Path) -> None:
    write_lines(tmp_path / "metrics.jsonl", [dict.fromkeys(REQUIRED, 1) | {"step": step} for step in range(3)])
    page = write_report(tmp_path)
    for name in ("config.toml", "ledger", "workers.jsonl"):
        assert name in page.read_text()


def test_old_lines_without_a_key_that_newer_ones_have_are_gaps(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "run", 12)
    lines = made_up_lines(12, 1)
    for line in lines[:6]:
        for key in set(line) - set(REQUIRED):
            del line[key]
    write_lines(folder / "metrics.jsonl", lines)
    write_report(folder)


def test_a_run_name_or_a_configuration_cannot_inject_html(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "<b>run", 1)
    assert "<b>" not in write_report(folder).read_text()


def test_a_folder_without_metrics_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"metrics\.jsonl: no metrics there; expected one JSON line a training step"):
        write_report(tmp_path)


def test_a_run_without_a_step_yet_says_so(tmp_path: Path) -> None:
    write_lines(tmp_path / "metrics.jsonl", [])
    with pytest.raises(DataError, match="no training step yet"):
        write_report(tmp_path)


def test_a_line_without_a_required_key_is_named(tmp_path: Path) -> None:
    lines = made_up_lines(3, 1)
    del lines[1]["reward/mean"]
    write_lines(tmp_path / "metrics.jsonl", lines)
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: no number for reward/mean"):
        write_report(tmp_path)


def evaluated(benchmark, version, value):
    estimate = {"value": value, "low": value - 0.1, "high": value + 0.1}
    return {"version": version, "incarnation": 1, "benchmark": benchmark, "n": 32, "problems": 30, "avg_at_n": estimate}


def test_what_followers_found_is_in_the_report_by_version(tmp_path):
    run = made_up_run(tmp_path / "run", 4)
    assert "Evaluation by version" not in write_report(run).read_text()
    for follower, benchmark in (("follow", "aime24"), ("other", "sums")):
        (run / "evaluations" / follower).mkdir(parents=True)
        lines = [evaluated(benchmark, version, value) for version, value in ((0, 0.25), (4, 0.5))]
        write_lines(run / "evaluations" / follower / "evaluations.jsonl", lines)
    page = write_report(run).read_text()
    assert "Evaluation by version" in page
    assert "version 0: 0.250 [0.150, 0.350]; version 4: 0.500 [0.400, 0.600]" in page
    assert page.count("avg@32") == 2
    assert (run / "evaluations.png").read_bytes().startswith(PNG)


def test_evaluations_that_cannot_be_read_are_named_and_cost_nothing_else(tmp_path):
    run = made_up_run(tmp_path / "run", 2)
    (run / "evaluations" / "torn").mkdir(parents=True)
    (run / "evaluations" / "torn" / "evaluations.jsonl").write_text("{")
    page = write_report(run).read_text()
    assert "evaluations/torn cannot be read" in page
    assert "Evaluation by version" not in page


def test_several_sources_have_a_picture_and_rows_of_their_own(tmp_path):
    folder = made_up_run(tmp_path / "run", 12)
    plain = write_report(folder).read_text()
    lines = [
        line
        | {"generated/groups": 20, "source/sums/share": 0.75, "source/words/share": 0.25}
        | {"source/sums/reward_mean": line["reward/mean"], "source/sums/trained": 12, "source/words/trained": 4}
        | {"source/sums/refunded": 3, "source/words/refunded": 1}
        | ({"source/words/reward_mean": 0.5} if line["step"] else {})
        for line in made_up_lines(12, 1)
    ]
    write_lines(folder / "metrics.jsonl", lines)
    text = write_report(folder).read_text()
    assert "Reward by source" in text
    assert "Reward by source" not in plain
    row = r'<th scope="row">words</th><td>25 % of the groups, 48 trained, 12 refunded, reward 0.500 → 0.500</td>'
    assert re.search(row, text)
