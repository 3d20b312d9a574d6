"""A user's folder may hold a queue.py or a math.py: nothing that a command starts takes it for Python's own."""

import json
from pathlib import Path

import pytest

from tests.integration.running import SMALL, leeway, metrics

RECIPE = Path(__file__).parents[2] / "examples" / "data" / "recipe.toml"
NAMES = ("queue", "random", "logging", "math", "profile", "string", "types", "numbers", "code", "redis", "torch")
SAYS_SO = "import pathlib\npathlib.Path(__file__).with_suffix('.executed').touch()\n"


@pytest.fixture
def folder(tmp_path):
    """A folder in which every module says so where it is executed."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(SAYS_SO)
    return tmp_path


def executed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.executed"))


def test_the_modules_of_a_folder_are_not_executed_by_a_command_or_what_it_starts(folder) -> None:
    row = {
        "id": 1,
        "response": "```python\nimport queue, math\nprint(5)\n```",
        "tests": {"inputs": [""], "outputs": ["5"]},
    }
    entry = {"question": "q", "answer": "5", "metadata": {"source_dataset": "chain_sum"}}
    rows = [row, {"id": 2, "response": r"\boxed{\sqrt[3]{125}}", "answer": "5"}]
    rows.append({"id": 3, "response": r"\boxed{5}", "entry": entry})
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = leeway("verify", "in.jsonl", "--out", "out.jsonl", "--jobs", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line)["verdict"] for line in (folder / "out.jsonl").read_text().splitlines()]
    assert verdicts == ["correct"] * 3
    done = leeway("data", "run", str(RECIPE), "--out", "prepared", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert leeway("up", "--preset", "tiny", "--dry-run", cwd=folder).returncode == 0
    assert executed(folder) == []


@pytest.mark.slow
def test_two_gloo_ranks_train_one_run_and_the_modules_of_its_folder_are_not_executed(folder) -> None:
    ranks = ["--set", "train.ranks=2", "--set", "train.zero_stage=1", "--set", "train.steps=3"]
    done = leeway("up", "--run", "shadowed", *SMALL, *ranks, "--set", "metrics.samples_every=0", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert leeway("audit", "shadowed", cwd=folder).returncode == 0
    assert len(metrics(folder / "runs/shadowed")) == 3
    assert not (folder / "runs/shadowed/samples.jsonl").exists()
    assert executed(folder) == []
