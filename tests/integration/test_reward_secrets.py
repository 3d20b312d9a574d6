"""A secret of a reward function is in nothing that a run leaves; and what fails with it is never trained on."""

import os
import subprocess
import uuid

import pytest
import redis
from leeway_rl.common.ledger import read

from tests.integration.running import command, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SECRET = "sk-test-7f3a9c51e2"
FUNCTION = """
def careful(response, row, key):
    assert key == "%s"[::-1]
    if row["answer"].startswith("1"):
        raise ConnectionError(f"401 for the key {key}")
    return len(response) / 10
"""
PRESET = """
[[rewards]]
use = "reward.py:careful"
options = { key = "env:OWN_KEY" }
"""


def test_a_secret_is_nowhere_to_be_found_and_its_failures_are_refunded(redis_url, tmp_path):
    (tmp_path / "reward.py").write_text(FUNCTION % SECRET[::-1])
    (tmp_path / "preset.toml").write_text(PRESET)
    run = f"secret-{uuid.uuid4().hex[:8]}"
    small = ["train.steps=2", "train.groups_per_step=4", "train.group_size=4", "broker.max_attempts=1"]
    words = ["--preset", "tiny", "--preset", "preset.toml", *(each for text in small for each in ("--set", text))]
    done = subprocess.run(
        command("up", "--run", run, "--redis-url", redis_url, *words),
        cwd=tmp_path,
        env=environment() | {"OWN_KEY": SECRET},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "runs" / run
    lines = list(read(folder / "ledger.jsonl"))
    trained = [line for line in lines if line["event"] == "trained"]
    assert len(trained) == 8
    assert all(set(line["verdicts"]) <= {"scored", "no_answer"} for line in trained)
    poisoned = [line for line in lines if line["event"] == "refunded" and line["reason"] == "poison"]
    assert poisoned, "an answer that begins with 1 is common enough"
    server = redis.Redis.from_url(redis_url)
    left = b"".join(key + held(server, key) for key in server.scan_iter(match=f"leeway:{{{run}}}:*"))
    texts = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(b"ledger.jsonl" in os.fsencode(path) for path in texts)
    for where, text in [("Redis", left), ("said", (done.stdout + done.stderr).encode()), *texts.items()]:
        assert SECRET.encode() not in text, where
    assert b"401 for the key env:OWN_KEY" in left, "its name stands in the dead letters in its place"


def held(server, key):
    """What stands under a key, as text; DUMP would compress it."""
    readers = {b"string": server.get, b"hash": server.hgetall, b"stream": server.xrange, b"set": server.smembers}
    kind = server.type(key)
    found = server.zrange(key, 0, -1) if kind == b"zset" else readers[kind](key)
    return found if isinstance(found, bytes) else repr(found).encode()
