"""docs/own-reward.md, as it stands: from nothing to a reward that rises, by a function of ten lines."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.integration.running import environment, leeway, metrics

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "own-reward.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    "leeway init my-task",
    "python -m pytest my-task",
    "leeway check my-task/preset.toml",
    "leeway up --preset my-task/preset.toml --run my-first",
    "leeway samples my-first --best 3",
    "leeway audit my-first",
]


def blocks(kind):
    """The fenced blocks of the page of one kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    return [text for of, text in found if of == kind]


def run(command, cwd):
    program, *words = shlex.split(command)
    if program == "leeway":
        done = leeway(*words, cwd=cwd, timeout=600)
    else:
        done = subprocess.run(
            [sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=environment(), check=False
        )
    assert done.returncode == 0, command + done.stdout + done.stderr
    return done.stdout


def test_the_page_trains_its_own_reward(tmp_path):
    documented = [line for block in blocks("") for line in block.splitlines() if line.startswith(("leeway", "python"))]
    assert documented == COMMANDS
    said = {}
    for command in COMMANDS:
        said[command] = run(command, tmp_path)
        if command == "leeway init my-task":
            (function,) = blocks("python")
            assert len(function.splitlines()) <= 10
            assert function in (tmp_path / "my-task" / "reward.py").read_text()
            (tmp_path / "my-task" / "reward.py").write_text(function)
    rewards = [line["reward/mean"] for line in metrics(tmp_path / "runs" / "my-first")]
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.05
    looked = said["leeway check my-task/preset.toml"]
    assert r"1.000  \boxed{85}  scored" in looked
    assert "a step: 8 prompts, 8 responses each" in looked
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
    assert "KeyError: 'colour' (line 2 of reward.py)" in done.stdout
