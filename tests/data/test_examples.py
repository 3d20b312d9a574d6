"""The recipes of examples/models, with what is there in the place of SmolLM2 and of its server."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.data.endpoint_double import EndpointDouble, asked
from tests.data.test_quality import ballot
from tests.integration.running import leeway

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def copied(folder, name, *changes):
    """The command of a recipe's first line, the recipe changed."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    path = folder / "examples" / "models" / name
    text = path.read_text()
    command = text.splitlines()[0].removeprefix("# leeway ")
    pages = [path.read_text() for path in (ROOT / "docs").rglob("*.md")]
    assert any(f"\nleeway {command}\n" in page for page in pages)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return command.split()


def test_sums_are_rated_by_a_model(tmp_path, tiny_model):
    words = copied(
        tmp_path,
        "difficulty.toml",
        ("../../runs/models/smollm2-135m-instruct", str(tiny_model)),
        ("max_tokens = 24", 'max_tokens = 4\nresponses = 2\nengine = "torch"\nnever_solved = "keep"'),
    )
    done = leeway(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "difficulty: 36 rows, 36 kept" in done.stdout
    rows = pq.read_table(tmp_path / "my-rated" / "data.parquet").to_pylist()
    assert {row["extra_info"]["model_difficulty"]["SmolLM2-135M-Instruct"] for row in rows} == {2}


def test_rows_are_judged_at_an_endpoint(tmp_path):
    with EndpointDouble(lambda request, _: ballot(keep="positive divisors" in asked(request))) as server:
        words = copied(tmp_path, "quality.toml", ("http://127.0.0.1:8000/v1", server.url))
        done = leeway(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "quality: 15 rows" in done.stdout
    assert {request["response_format"]["type"] for request in server.requests} == {"json_schema"}
    kept = pq.read_table(tmp_path / "my-judged" / "data.parquet").to_pylist()
    assert kept
    assert all("positive divisors" in row["prompt"][0]["content"] for row in kept)
