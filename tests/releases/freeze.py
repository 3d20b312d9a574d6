"""Freezes a small finished run and a stopped one, as this version of Leeway leaves them, for the tests of later ones.

::

    python tests/releases/freeze.py

It writes ``tests/releases/VERSION.tar.xz``: a model of a few thousand random parameters, its rows, and one run of six
steps in two folders, as it ended and as it stood at a checkpoint before. ``tests/test_releases.py`` audits, reports,
exports and resumes what every release has left. Each release adds its own file (CONTRIBUTING.md); once it is released,
it is never written anew.
"""

import io
import json
import shutil
import socket
import sys
import tarfile
import tempfile
from pathlib import Path

from leeway_rl import __version__
from leeway_rl.learner.copying import copy, order_of
from leeway_rl.leeway.running.elsewhere import pull

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.integration.running import leeway
from tests.model_folders import make_folder

HERE = "@HERE@"
"""Stands in the configurations for the folder that an archive is unpacked into."""
RUN = "frozen"
STEPS, STOPPED_AT = 6, 4
KEPT = ("config.toml", "ledger.jsonl", "metrics.jsonl", "samples.jsonl", "workers.jsonl", "checkpoints")
PRESET = """
rewards = [{ use = "regex", options = { pattern = "[0-4]{2}" }, truncated = "score" }]

[model]
path = "HERE/model"
dtype = "float32"

[data]
path = "HERE/rows.jsonl"
max_prompt_tokens = 16

[train]
steps = 6
groups_per_step = 2
group_size = 4
max_response_tokens = 8
learning_rate = 1e-3
micro_batch_tokens = 256
checkpoint_every = 2
keep_checkpoints = 9

[flow]
max_staleness = 1

[weights]
dtype = "float32"

[rollout]
engine = "torch"
dtype = "float32"
"""


def made(folder: Path) -> None:
    """Train the run in ``folder``, and leave there what the archive has: model, rows, ``finished`` and ``stopped``."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    make_folder(folder / "model", **sizes)
    rows = [{"prompt": f"{number}+{number}", "answer": str(2 * number)} for number in range(40)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "preset.toml").write_text(PRESET.replace("HERE", str(folder)))
    done = leeway(
        *("up", "--preset", str(folder / "preset.toml"), "--run", RUN, "--runs-dir", str(folder / "runs")), cwd=folder
    )
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    run = folder / "runs" / RUN
    for path in run.glob("checkpoints/*"):
        if path.name not in (f"step-{STEPS:06d}", f"step-{STOPPED_AT:06d}"):
            shutil.rmtree(path)
    whole = run.with_name("whole")
    run.rename(whole)
    _stopped(whole, folder)
    shutil.rmtree(whole / "checkpoints" / f"step-{STOPPED_AT:06d}")
    shutil.copytree(whole, folder / "finished" / RUN)


def _stopped(whole: Path, folder: Path) -> None:
    """The run as it stood at an earlier checkpoint: what a copy of that checkpoint brings to an empty machine."""
    cut = shutil.copytree(whole, folder / "cut" / RUN)
    shutil.rmtree(cut / "checkpoints" / f"step-{STEPS:06d}")
    state = json.loads((cut / "checkpoints" / f"step-{STOPPED_AT:06d}" / "state.json").read_text())
    lines = (cut / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "ledger.jsonl").write_bytes(b"".join(lines[: state["ledger_line"]]))
    lines = (cut / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (cut / "metrics.jsonl").write_bytes(b"".join(lines[:STOPPED_AT]))
    copy(order_of(cut, str(folder / "place")))
    pull(str(folder / "place" / RUN), folder / "stopped", step=None)


def packed(folder: Path, archive: Path) -> None:
    """Write the archive. Nothing in it tells of the machine or of the hour."""
    private = (socket.gethostname().encode(), str(folder).encode())
    paths = [folder / "rows.jsonl", *folder.glob("model/*")]
    for side in ("finished", "stopped"):
        paths += [each for name in KEPT for each in _files(folder / side / RUN / name)]
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for path in sorted(paths):
            content = path.read_bytes()
            if path.name == "config.toml":
                content = content.replace(str(folder).encode(), HERE.encode())
            elif path.name in ("workers.jsonl", "samples.jsonl"):
                content = content.replace(socket.gethostname().encode(), b"host")
            if any(word in content for word in private):
                sys.exit(f"{path}: it names this machine")
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack an archive into ``folder``, with its configurations pointing there."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    for path in folder.glob("*/*/config.toml"):
        path.write_text(path.read_text().replace(HERE, str(folder)))
    return folder


def main() -> None:
    """Freeze this version's run."""
    archive = Path(__file__).with_name(f"{__version__}.tar.xz")
    if archive.exists():
        sys.exit(f"{archive} exists, and what a release has left is not written anew: raise the version first")
    with tempfile.TemporaryDirectory() as folder:
        made(Path(folder))
        packed(Path(folder), archive)
    print(f"{archive}: {archive.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
