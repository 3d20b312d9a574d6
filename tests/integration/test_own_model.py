"""docs/start/own-model.md: the preset of a 7B model is planned as it stands, and trains the model of `tiny` here."""

import shlex

import pytest

from tests.integration.pages import ROOT, blocks, commands
from tests.integration.running import leeway, metrics

PAGE = ROOT / "docs" / "start" / "own-model.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    "leeway up --preset my-model.toml --dry-run",
    "leeway plan --preset my-model.toml --gpus 64 --max-staleness 1,2 --steps 20",
    "leeway doctor --preset my-model.toml",
    "leeway check my-model.toml",
    "leeway up --preset my-model.toml --run my-model",
]
SMALL = {
    "model.path": "{presets}/tiny/model",
    "model.dtype": "float32",
    "train.steps": "2",
    "train.groups_per_step": "2",
    "train.group_size": "4",
    "train.max_response_tokens": "48",
    "train.ranks": "1",
    "train.zero_stage": "0",
    "train.gradient_checkpointing": "false",
    "data.max_prompt_tokens": "32",
    "placement.learner": "cpu",
    "placement.rollout": "cpu",
    "rollout.engine": "torch",
    "rollout.dtype": "float32",
    "rollout.workers": "1",
    "weights.dtype": "float32",
}


@pytest.fixture
def task(tmp_path):
    assert leeway("init", "my-task", cwd=tmp_path).returncode == 0
    (preset,) = blocks(PAGE, "toml")
    (tmp_path / "my-model.toml").write_text(preset)
    return tmp_path


def test_the_preset_fits_as_the_page_says(task):
    assert commands(PAGE) == COMMANDS
    done = leeway(*shlex.split(COMMANDS[0])[1:], cwd=task)
    assert done.returncode == 0, done.stderr
    shown = next(block for block in blocks(PAGE, "") if block.startswith("# peak"))
    for line in shown.splitlines():
        assert line in done.stdout
    done = leeway(*shlex.split(COMMANDS[1])[1:], cwd=task)
    assert "best at η = 2, wait: " in done.stdout, done.stderr


def test_the_same_preset_trains_a_small_model_here(task):
    settings = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    for command in COMMANDS[2:]:
        quick = ["--quick"] if "doctor" in command else []
        done = leeway(*shlex.split(command)[1:], *settings, *quick, cwd=task, timeout=600)
        assert done.returncode == 0, command + done.stdout + done.stderr
    assert len(metrics(task / "runs" / "my-model")) == 2
