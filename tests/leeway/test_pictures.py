"""What the pictures must have, whatever they show: names on both axes, and nothing outside the frame."""

import io
import json
import re
from dataclasses import replace

import matplotlib
import pytest
from leeway_rl.common.ledger import Ledger
from leeway_rl.leeway.reporting import evaluation_pictures, pictures
from leeway_rl.leeway.reporting.drawing import STYLE, png
from leeway_rl.leeway.reporting.report import write_report
from leeway_rl.leeway.reporting.rundata import load
from leeway_rl.leeway.sweeping import sweep_pictures
from leeway_rl.leeway.sweeping.sweepdata import Run
from matplotlib.image import imread

from tests.leeway.test_evaluate import RESULT
from tests.leeway.test_report import evaluated, made_up_lines, made_up_run, write_lines
from tests.leeway.test_sweep import made_up_sweep

TURNS = [("max_staleness", 2, 1, 3, "operator"), ("overflow", "mask", "wait", 5, "operator")]
TURNS += [("target_entropy", 0.25, 0.15, 5, "operator"), ("paused", True, False, 8, "operator")]
TURNS += [
    ("paused", False, True, 9, "operator"),
    ("max_staleness", 1, 2, 10, "guard"),
    ("pipeline_depth", "8", "auto", 99, "operator"),
]


@pytest.fixture
def turned(tmp_path):
    """A run of 12 steps with losses, in which every live control was turned."""
    folder = made_up_run(tmp_path / "run", 12)
    lines = [
        line | {"loss": -0.01 * line["step"], "grad_norm": 0.4, "grad_norm_max": 1.6} for line in made_up_lines(12, 1)
    ]
    write_lines(folder / "metrics.jsonl", lines)
    ledger = Ledger(folder / "ledger.jsonl")
    for name, value, previous, version, by in TURNS:
        ledger.write("control", name=name, value=value, previous=previous, version=version, by=by)
    ledger.close()
    return load(folder)


def close_in_entropy(values, seed):
    """Entropies so alike that the colour bar's numbers are long."""
    return {"entropy": 0.12345 + 0.00001 * seed + (0.0001 if values[0] == "0" else 0), "step_s": 2.0 + seed}


LONG = [
    "flow.max_staleness=0,1",
    "objective.correction=decoupled,loglinear",
    "flow.overflow=wait",
]


@pytest.fixture
def figures(turned, tmp_path):
    """Every figure of the desk."""
    sweep = made_up_sweep(tmp_path / "sweep", close_in_entropy, LONG)
    lines = [evaluated("aime24", version, 0.5) for version in (0, 4)]
    with matplotlib.rc_context(STYLE):
        yield {
            "report": pictures.figure_of(turned),
            "sweep": sweep_pictures.figure_of(sweep),
            "frontier": sweep_pictures.figure_of_frontier(sweep),
            "evaluation": evaluation_pictures.figure_of_one("one", RESULT),
            "versions": evaluation_pictures.figure_over_versions(lines),
        }


def test_both_axes_of_every_panel_have_their_names(figures):
    for name, figure in figures.items():
        for ax in figure.axes:
            if ax.axison and ax.get_label() != "colour bar":
                assert ax.get_xlabel(), (name, ax.get_title(loc="left"))
                assert ax.get_ylabel(), (name, ax.get_title(loc="left"))


def test_nothing_is_cut_off_the_picture_is_as_large_as_what_is_on_it(figures):
    for name, figure in figures.items():
        high, wide = imread(io.BytesIO(png(figure))).shape[:2]
        drawn = figure.get_tightbbox()
        assert wide >= figure.dpi * drawn.width, name
        assert high >= figure.dpi * drawn.height, name


def test_the_names_of_the_settings_and_the_colour_bar_do_not_meet(figures):
    figure = figures["frontier"]
    ax, bar = figure.axes
    names = [text.get_window_extent() for text in ax.texts]
    assert len(names) == 4
    assert not any(name.overlaps(bar.get_tightbbox()) for name in names)


def test_turns_of_the_dial_are_lines_with_their_values_over_the_steps(turned, figures):
    assert turned.dial() == [
        (3, "η = 2"),
        (5, "overflow mask, target 0.25"),
        (8, "paused"),
        (9, "goes on"),
        (10, "η = 1 (guard)"),
        (99, "depth 8"),
    ]
    over_steps = [ax for ax in figures["report"].axes if ax.get_xlabel() == "training step"]
    assert len(over_steps) == 11
    for ax in over_steps:
        words = [text.get_text() for text in ax.texts]
        assert {"η = 2", "overflow mask, target 0.25", "paused", "goes on", "η = 1 (guard)"} <= set(words)
        at = {line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1}
        assert {2.5, 4.5, 7.5, 8.5, 9.5} <= at


def answering(line):
    """What a step says of answers, in a run of groups of four that learns and grows longer."""
    at, solved = line["step"] / 12, [12 - line["step"], 4, 3, 3, 2 + line["step"]]
    return line | {
        **{f"solved/groups_{number}": count for number, count in enumerate(solved)},
        "solved/pass_at_1": 0.3 + 0.3 * at, "solved/pass_at_2": 0.45 + 0.2 * at, "solved/pass_at_4": 0.6 + 0.1 * at,
        "solved/completed_share": 0.28 + 0.25 * at,
        "verdict/correct/share": 0.3 + 0.3 * at, "verdict/correct/length_mean": 20 + 8 * at,
        "verdict/no_answer/share": 0.1, "verdict/no_answer/length_mean": 60.0,
        "verdict/wrong/share": 0.6 - 0.3 * at, "verdict/wrong/length_mean": 25 + 20 * at,
        "logprob/sequence_ratio_mean": 1 + 0.001 * at, "logprob/sequence_ratio_std": 0.01,
        "logprob/sequence_ratio_max": 1.06, "logprob/sequence_ratio_min": 0.95,
        "entropy/policy/up": 0.8, "entropy/policy/down": 1.1, "progress/updates": 2 * (line["step"] + 1),
        **({"kl/reference": 0.01 * at} if line["step"] % 5 == 0 else {}),
    }  # fmt: skip


def test_answers_have_pictures_with_what_is_known_of_them_and_rows_in_the_summary(tmp_path):
    folder = made_up_run(tmp_path / "run", 12)
    write_lines(folder / "metrics.jsonl", [answering(line) for line in made_up_lines(12, 1)])
    with matplotlib.rc_context(STYLE):
        panels = {ax.get_title(loc="left"): ax for ax in pictures.figure_of(load(folder)).axes}
    said = {title: {text.get_text() for text in ax.texts} for title, ax in panels.items()}
    bars = panels["Solved responses of a group"].patches
    first, last = ([bar.get_height() for bar in part] for part in (bars[:5], bars[5:]))
    assert first[0] == pytest.approx((12 + 11 + 10 + 9 + 8 + 7) / (6 * 24))  # the first six of twelve steps
    assert last[0] == pytest.approx((6 + 5 + 4 + 3 + 2 + 1) / (6 * 24))
    assert {"pass@1 0.513", "pass@4 0.671", "completed"} <= said["pass@k in training"]
    assert {"correct", "wrong", "no answer"} <= said["Length by verdict"]
    assert "spread 0.01, from 0.95 to 1.06; line: mean over 3" in said["Ratios of whole responses"]
    assert "last measured 0.00833, at step 10" in said["Divergence from the initial model"]
    assert {"up", "down"} <= said["Policy entropy"]
    page = re.sub(r"<[^>]+>", " ", write_report(folder).read_text())
    assert re.search(r"optimizer updates\s+24\b", page)
    assert re.search(r"pass@4 of the graded groups, first and last 6 steps\s+0.621 → 0.671", page)


def test_settings_are_compared_over_updates_too_where_a_step_is_several(tmp_path, figures):
    made_up_sweep(tmp_path / "more", close_in_entropy, LONG)
    for path in (tmp_path / "more/runs").glob("*/metrics.jsonl"):
        lines = [json.loads(line) | {"policy/updates": 2.0} for line in path.read_text().splitlines()]
        write_lines(path, lines)
    plan = made_up_sweep(tmp_path / "plan", close_in_entropy, LONG)
    runs = {key: Run.of(run.point, load(tmp_path / "more/runs" / run.data.name)) for key, run in plan.runs.items()}
    with matplotlib.rc_context(STYLE):
        several = sweep_pictures.figure_of(replace(plan, runs=runs))
    titles = [ax.get_title(loc="left") for ax in several.axes]
    assert titles[-2:] == ["Reward over updates", "Entropy over updates"]
    assert "Reward over updates" not in [ax.get_title(loc="left") for ax in figures["sweep"].axes]
    assert several.axes[-2].get_lines()[0].get_xdata()[-1] == 24  # twelve steps


def test_turns_too_close_to_be_read_are_told_by_their_number(turned, tmp_path):
    folder = made_up_run(tmp_path / "long", 200)
    ledger = Ledger(folder / "ledger.jsonl")
    for version in range(100, 105):
        ledger.write("control", name="max_staleness", value=version, previous=0, version=version, by="guard")
    ledger.close()
    with matplotlib.rc_context(STYLE):
        reward = pictures.figure_of(load(folder)).axes[0]
    assert "η = 100 (guard) and 4 more" in [text.get_text() for text in reward.texts]


def test_loss_and_gradient_norm_are_drawn_with_what_was_clipped(turned, figures):
    panels = {ax.get_title(loc="left"): ax for ax in figures["report"].axes}
    assert "Loss" in panels
    said = [text.get_text() for text in panels["Gradient norm"].texts]
    assert any(text.startswith("mean 0.4; clipped to 1 in 100 % of the steps") for text in said)
    assert {"clip 1", "largest", "mean"} <= set(said)


def test_devices_and_memory_are_drawn_with_what_is_known_of_them(turned, figures, tmp_path):
    panels = {ax.get_title(loc="left"): ax for ax in figures["report"].axes}
    devices, memory = panels["Use of the learner's devices"], panels["Memory"]
    assert {"MFU", "HFU"} <= {text.get_text() for text in devices.texts}
    assert {"device", "learner's host", "host of rank 0", "rollout"} <= {text.get_text() for text in memory.texts}
    folder = made_up_run(tmp_path / "cpu", 12)
    unknown = {"throughput/mfu": None, "throughput/hfu": None, "memory/host_peak_bytes/rank_0": 2e9}
    unknown |= {"memory/device_peak_bytes": 2e9, "memory/host_peak_bytes": 2e9}
    write_lines(folder / "metrics.jsonl", [line | unknown for line in made_up_lines(12, 1)])
    with matplotlib.rc_context(STYLE):
        panels = {ax.get_title(loc="left"): ax for ax in pictures.figure_of(load(folder)).axes}
    devices, memory = panels["Use of the learner's devices"], panels["Memory"]
    assert devices.get_ylabel() == "TFLOP/s a device"
    said = {text.get_text() for text in memory.texts}
    assert {"rollout", "learner's host"} <= said
    assert not {"device", "host of rank 0"} & said
