"""Every run of docs/how-to/ablations.md as a shell reads it: it composes, has the numbers of its row, fits, and
dry-runs."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest
from leeway_rl.common.config import Config, compose, dump
from leeway_rl.leeway.planning.arithmetic import Gpu, shape_of, why_not
from leeway_rl.leeway.running.dry_run import whole

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/ablations.md").read_text()
BASE = re.search(r'^BASE="(.*?)"', PAGE, re.M | re.S).group(1)


class Run(NamedTuple):
    row: str
    words: str
    """What the row adds, as one types it."""
    value: str | None = None
    """One of the values in parentheses, which takes the place of the last."""


def runs():
    for row in [line for line in PAGE.splitlines() if re.match(r"\| [\d.]+ ", line)]:
        words, others = re.search(r"\| `(--set .*?)`(?: \((.*?)\))? \|", row).groups()
        yield Run(row, words)
        for value in re.findall(r"`(.*?)`", others or ""):
            yield Run(row, re.sub(r"[\w.-]+((?:\}\]')?)$", rf"{value}\g<1>", words), value)


RUNS = list(runs())


def typed(words: str) -> list[str]:
    """The words as bash hands them to a program."""
    program = ["bash", "-c", f"printf '%s\\0' {words}"]
    return subprocess.run(program, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def configured(words: str) -> Config:
    options = typed(f"{' '.join(BASE.split())} {words}")
    given = dict.fromkeys(("--preset", "--set"))
    found = {option: [b for a, b in zip(options[::2], options[1::2], strict=True) if a == option] for option in given}
    assert 2 * sum(map(len, found.values())) == len(options), options
    return compose(found["--preset"], found["--set"])


def test_every_ablation_of_the_report_has_a_run_and_no_two_rows_of_one_number_are_the_same():
    numbers = {re.match(r"\| (\d+)(?![\d.])", run.row).group(1) for run in RUNS if re.match(r"\| \d+ ", run.row)}
    assert numbers == {str(number) for number in range(1, 13)}
    assert len(RUNS) >= 45
    for number in numbers:
        dumps = [dump(configured(run.words)) for run in RUNS if run.row.startswith(f"| {number} ")]
        assert len(dumps) == len(set(dumps)), number


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.row.split('|')[1].strip()}-{run.value or run.words[-24:]}")
def test_a_run_of_the_table_has_its_numbers_fits_and_passes_the_dry_run(run):
    config = configured(run.words)
    train = config.train
    if quadruple := re.search(r"\((\d+),(\d+),(\d+),(\d+)\)", run.row):
        ours = (train.updates_per_step, train.groups_per_step, train.minibatch_groups, train.reuse)
        assert ours == tuple(map(int, quadruple.groups()))
    if run.value is not None:
        assert run.value.rstrip("0") in dump(config) or f"{float(run.value)}" in dump(config)
    assert "training steps" in whole(config)
    assert why_not(config, shape_of(config.model.path), Gpu()) is None
