"""docs/start/own-reward.md, as it stands: from nothing to a reward that rises, by a function of ten lines."""

import json
import re

import numpy as np
import pytest
from leeway_rl.common.config import parse
from leeway_rl.common.ledger import read

from tests.integration.pages import ROOT, blocks, commands, run
from tests.integration.running import leeway, metrics

PAGE = ROOT / "docs" / "start" / "own-reward.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    "leeway init my-task",
    "python -m pytest my-task",
    "leeway check my-task/preset.toml",
    "leeway up --preset my-task/preset.toml --run my-first",
    "leeway samples my-first --best 3",
    "leeway audit my-first",
]


def test_the_page_trains_its_own_reward(tmp_path):
    assert commands(PAGE) == COMMANDS
    said = {}
    for command in COMMANDS:
        said[command] = run(command, tmp_path)
        if command == "leeway init my-task":
            (function,) = blocks(PAGE, "python")
            assert len(function.splitlines()) <= 10
            assert function in (tmp_path / "my-task" / "reward.py").read_text()
            (tmp_path / "my-task" / "reward.py").write_text(function)
    rewards = [line["reward/mean"] for line in metrics(tmp_path / "runs" / "my-first")]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.05
    looked = said["leeway check my-task/preset.toml"]
    assert r"1.000  \boxed{85}  scored" in looked
    assert "a step: 8 prompts, 8 responses each" in looked
    assert "leeway-check-" not in looked, "that folder is gone"
    assert "scored" in said["leeway samples my-first --best 3"]
    assert "audit passed" in said["leeway audit my-first"]


def test_the_folder_of_a_new_task_is_called_as_it_is_and_replaces_nothing(tmp_path):
    assert leeway("init", "sums", cwd=tmp_path).returncode == 0
    assert "leeway check sums/preset.toml" in (tmp_path / "sums" / "README.md").read_text()
    again = leeway("init", "sums", cwd=tmp_path)
    assert again.returncode == 3
    assert "not empty" in again.stderr


def test_check_names_a_reward_that_fails(tmp_path):
    assert leeway("init", "my-task", cwd=tmp_path).returncode == 0
    (tmp_path / "my-task" / "reward.py").write_text("def digits(response, row):\n    return row['colour']\n")
    done = leeway("check", "my-task/preset.toml", "--rows", "1", "--responses", "1", cwd=tmp_path)
    assert done.returncode != 0
    assert "KeyError: 'colour' (line 2 of reward.py); the row has prompt, answer, carries" in done.stdout
    assert "no response is sampled before the rewards work: each line marked error says why not" in done.stdout


TWO = """
[[rewards]]
use = "reward.py:digits"
[[rewards]]
use = "exact"
weight = 0.5
[train]
steps = 2
groups_per_step = 4
group_size = 4
"""


@pytest.fixture
def two_rewards(tmp_path):
    """A preset with a function and a judge of answers, in a folder where commands may run."""
    assert leeway("init", "my-task", cwd=tmp_path).returncode == 0
    (tmp_path / "my-task" / "two.toml").write_text(TWO)
    return tmp_path


def test_each_reward_s_own_value_is_in_metrics_samples_and_report(two_rewards):
    words = ("--preset", "my-task/preset.toml", "--preset", "my-task/two.toml", "--set", "metrics.samples_every=1")
    done = leeway("up", *words, "--run", "two", cwd=two_rewards)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = two_rewards / "runs" / "two"
    for line in metrics(folder):
        assert line["reward/mean"] == pytest.approx(line["reward/part/digits"] + 0.5 * line["reward/part/exact"])
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    given = [each["rewards"] for sample in samples for each in sample["responses"]]
    assert given
    assert all(each["reward"] == pytest.approx(each["digits"] + 0.5 * each["exact"]) for each in given)
    assert re.search(r"reward [\d.]+, digits [\d.]+, exact [01]; scored", (folder / "report.html").read_text())
    started = [line for line in read(folder / "ledger.jsonl") if line["event"] == "started"]
    stored = parse((folder / "config.toml").read_text()).verifier.rewards_digest
    assert [line["rewards_digest"] for line in started] == [stored]


def test_at_a_bound_of_0_own_rewards_end_with_the_weights_of_one_process(two_rewards):
    words = ("--preset", "my-task/preset.toml", "--preset", "my-task/two.toml", "--steps", "2")
    done = leeway("prove", "on-policy", *words, "--rollout-workers", "2", "--verifier-workers", "2", cwd=two_rewards)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal, bit for bit" in done.stdout


def test_a_function_that_is_not_there_is_told_before_anything_starts(two_rewards):
    (two_rewards / "my-task" / "reward.py").write_text("def digit(response, row):\n    return 1.0\n")
    done = leeway("up", "--preset", "my-task/preset.toml", "--run", "none", cwd=two_rewards)
    assert done.returncode == 2
    assert "has no 'digits'; did you mean 'digit'?" in done.stderr
    assert not (two_rewards / "runs" / "none").exists()
