"""The end of a file, and what reading it costs."""

import random

import pytest
from leeway_rl.common import tail
from leeway_rl.common.tail import lines_backwards, whole_size


@pytest.mark.parametrize("block", [1, 2, 7, 1 << 16])
def test_the_lines_come_backwards_whatever_the_blocks_cut(tmp_path, monkeypatch, block):
    monkeypatch.setattr(tail, "BLOCK", block)
    path, rng = tmp_path / "lines", random.Random(0)
    for _ in range(60):
        body = bytes(rng.choice(b"ab\n") for _ in range(rng.randrange(30)))
        path.write_bytes(body)
        *whole, _ = body.split(b"\n")
        assert list(lines_backwards(path)) == whole[::-1]
        assert whole_size(path) == body.rfind(b"\n") + 1
