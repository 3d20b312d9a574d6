"""The benchmarks run and print their ratios; what the ratios are is for an idle machine to say."""

import re
import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_the_hand_over_prints_a_line_of_ratios_for_every_size(redis_url, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hand_over.py", "--url", redis_url, "--rounds", "1", "--groups", "2"])
    runpy.run_path(str(BENCHMARKS / "hand_over.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert re.findall(r"^(\w+)(?: +[\d.,]+){8}$", said, re.MULTILINE) == ["tiny", "smollm2", "7B"]


def test_the_bound_holds_over_random_histories_and_the_policies_differ(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hard_bound.py", "--histories", "150"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / "hard_bound.py"), run_name="__main__")
    assert ended.value.code == 0
    head, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    counts = {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines}
    assert [counts[policy]["broken"] for policy in ("wait", "drop", "mask", "soft")] == ["0"] * 4
    assert [counts[policy]["past"] for policy in ("wait", "drop", "mask")] == ["0"] * 3
    assert int(counts["soft"]["past"]) > 0
    assert int(counts["mask"]["masked"]) > 0
