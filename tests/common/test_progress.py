"""A run's progress is read as its file grows."""

import json
from contextlib import closing
from pathlib import Path

from leeway_rl.common.files import write_whole
from leeway_rl.common.progress import Progress


def lines(first, end):
    return "".join(
        json.dumps({"step": step, "version": step + 1, "filler": "x" * 1000}) + "\n" for step in range(first, end)
    )


def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


def test_each_look_reads_what_is_new_and_a_resume_begins_anew(tmp_path):
    with closing(Progress(tmp_path)) as progress:
        looked_at(progress, tmp_path / "metrics.jsonl")


def looked_at(progress, path):
    assert (progress.look(), progress.newest) == (0, None)
    path.write_text(lines(0, 3_000))
    assert progress.look() == 3_000
    with path.open("a") as file:
        file.write(lines(3_000, 3_001) + '{"step": 3001, "ver')
    before = bytes_read()
    assert progress.look() == 3_001
    assert bytes_read() - before < 1_000_000, "three megabytes are there, and other threads of this process read, too"
    assert progress.newest["version"] == 3_001
    write_whole(path, lines(0, 5))
    assert (progress.look(), progress.newest["step"]) == (5, 4)
    write_whole(path, lines(0, 5_000))
    assert (progress.look(), progress.newest["step"]) == (5_000, 4_999)
