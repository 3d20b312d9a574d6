"""The folder of a task of one's own: what it may be called, and what stands in its way."""

import os
import subprocess
import sys
import tomllib

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.common.task import ENVIRONMENT, REWARD, make_task


@pytest.mark.parametrize("template", [REWARD, ENVIRONMENT])
@pytest.mark.parametrize("name", ["a b", "über✓", "-x", "it's"])
def test_an_odd_name_makes_files_that_can_be_read(tmp_path, name, template):
    made = make_task(tmp_path / name, template)
    assert tomllib.loads((tmp_path / name / "preset.toml").read_text())["data"]["path"] == "{here}/rows.jsonl"
    for path in made:
        if path.suffix == ".py":
            compile(path.read_text(), str(path), "exec")


def test_an_empty_folder_that_one_stands_in_gives_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "sums").mkdir()
    monkeypatch.chdir(tmp_path / "sums")
    make_task(tmp_path.__class__("."))
    assert "leeway check sums/preset.toml" in (tmp_path / "sums" / "README.md").read_text()


@pytest.mark.parametrize("template", [REWARD, ENVIRONMENT])
def test_its_tests_pass_inside_a_project_with_settings_of_its_own(tmp_path, template):
    settings = '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib", "--no-such-option"]\n'
    (tmp_path / "pyproject.toml").write_text(settings)
    make_task(tmp_path / "my-task", template)
    command = [sys.executable, "-m", "pytest", "my-task"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_reward_that_hangs_ends_its_test_and_the_line_is_told(tmp_path):
    make_task(tmp_path / "my-task")
    (tmp_path / "my-task" / "reward.py").write_text("def digits(response, row):\n    while True: pass\n")  # on one line
    command = [sys.executable, "-m", "pytest", "my-task", "-o", "faulthandler_timeout=10"]  # that of the folder is 30
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode != 0
    assert '/reward.py", line 2 in digits' in done.stdout + done.stderr
    assert "faulthandler_timeout = 30" in (tmp_path / "my-task" / "pytest.ini").read_text()


@pytest.mark.parametrize("name", ["new\nline", os.fsdecode(b"\xff"), 'three"""quotes', "back\\slash"])
def test_a_name_that_no_text_can_hold_is_refused_and_nothing_is_made(tmp_path, name):
    with pytest.raises(DataError, match="name of the folder"):
        make_task(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_with_why(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    for folder in (tmp_path / "file" / "x", tmp_path / "dangling", tmp_path / ("a" * 300)):
        with pytest.raises(DataError, match="cannot be made"):
            make_task(folder)
