"""The benchmarks run and print their ratios; what the ratios are is for an idle machine to say."""

import re
import runpy
import sys
from pathlib import Path

from leeway_rl.common.config import compose

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_hand_over_prints_a_line_of_ratios_for_every_size(redis_url, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hand_over.py", "--url", redis_url, "--rounds", "1", "--groups", "2"])
    runpy.run_path(str(BENCHMARKS / "hand_over.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.findall(r"^(\w+)(?: +[\d.,]+){8}$", said, re.MULTILINE) == ["tiny", "smollm2", "7B"]


def test_four_updates_a_step_take_entropy_that_the_controller_keeps():
    benchmark = runpy.run_path(str(BENCHMARKS / "entropy_control.py"))
    small = ["train.groups_per_step=4", "train.minibatch_groups=1", "entropy.delta=0.02", "entropy.target=0.3"]

    def entropy(control):
        config = compose(["tiny"], [*small, f"entropy.control={control}"])
        return [metrics["entropy/policy"] for metrics in benchmark["training"](config, 25)]

    free, kept = entropy("none"), entropy("adaptive")
    assert free[0] == kept[0]
    assert sum(kept[-5:]) > 1.5 * sum(free[-5:])
