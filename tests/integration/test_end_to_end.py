"""From raw rows to a judged model, by the commands of docs/how-to/raw-rows-to-model.md: two training steps
instead of eight."""

import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.integration.running import leeway, metrics

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

COMMANDS = [
    "leeway data run examples/end_to_end/recipe.toml --out my-sums",
    "leeway up --preset tiny --preset examples/end_to_end/train.toml --run my-sums-run",
    "leeway report my-sums-run",
    "leeway eval run examples/end_to_end/held-out.jsonl --model runs/my-sums-run --responses 8 --max-tokens 64 "
    "--max-prompt-tokens 32 --out my-sums-eval",
]


def test_raw_rows_become_a_model_that_is_judged(tmp_path):
    documented = (ROOT / "docs" / "how-to" / "raw-rows-to-model.md").read_text()
    for name in ("examples", "presets"):
        (tmp_path / name).symlink_to(ROOT / name)
    for command in COMMANDS:
        assert f"\n{command}\n" in documented
        fewer = ["--set", "train.steps=2", "--set", "train.groups_per_step=4"] if " up " in command else []
        done = leeway(*shlex.split(command)[1:], *fewer, cwd=tmp_path, timeout=600)
        assert done.returncode == 0, command + done.stdout + done.stderr
    rows = pq.read_table(tmp_path / "my-sums" / "data.parquet").to_pylist()
    assert all(0 < row["extra_info"]["model_difficulty"]["tiny"] < 8 for row in rows)
    assert len(metrics(tmp_path / "runs" / "my-sums-run")) == 2
    assert list((tmp_path / "runs" / "my-sums-run").glob("report*"))
    assert list((tmp_path / "my-sums-eval").iterdir())
