"""The benchmarks run and print their ratios; what the ratios are is for an idle machine to say."""

import re
import runpy
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_hand_over_prints_a_line_of_ratios_for_every_size(redis_url, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hand_over.py", "--url", redis_url, "--rounds", "1", "--groups", "2"])
    runpy.run_path(str(BENCHMARKS / "hand_over.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.findall(r"^(\w+)(?: +[\d.,]+){8}$", said, re.MULTILINE) == ["tiny", "smollm2", "7B"]
