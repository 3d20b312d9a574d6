"""What a run's folder tells when its server has left: how far the run has come, from the ends of its files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...common.errors import AuditError
from ...common.json_text import line_of_ours
from ...common.ledger import is_complete
from ...common.lineage import lineage_of
from ...common.tail import lines_backwards


def last_state(folder: Path) -> dict[str, str]:
    """How far the run in ``folder`` has come, in the words of its learner: phase, step and version, and steps where the
    ledger has its first line. Whether the ledger is sound is not checked here."""
    step, steps = str(steps_made(folder, newest_step(folder))), steps_due(folder)
    told = {"phase": "finished" if is_finished(folder) else "stopped", "step": step, "version": step}
    lineage = lineage_of(folder)
    forked = {"forked_from": lineage[0].describe()} if lineage else {}
    return told | forked | ({} if steps is None else {"steps": str(steps)})


def is_finished(folder: Path) -> bool:
    """Whether the run's ledger has its end; False where its last line is damaged."""
    try:
        return is_complete(folder)
    except AuditError:
        return False


def newest_step(folder: Path) -> dict[str, Any]:
    """The run's last training step, as ``metrics.jsonl`` has it; empty where there is none."""
    return next(objects_backwards(folder / "metrics.jsonl"), {})


def steps_made(folder: Path, step: dict[str, Any]) -> int:
    """Training steps made, from the metrics line of the last one. A fork that has made none stands where it comes
    from."""
    try:
        if "version" in step:
            return int(step["version"])
    except (ValueError, TypeError):
        return 0
    lineage = lineage_of(folder)
    return lineage[0].step if lineage else 0


def steps_due(folder: Path) -> int | None:
    """Training steps that the run is to make; None where its ledger does not say."""
    try:
        with (folder / "ledger.jsonl").open("rb") as file:
            return int(line_of_ours(file.readline())["steps"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def objects_backwards(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a JSONL file from its end, as many as the caller takes; none where there is no file. Lines that are
    no JSON objects are left out, because to judge the file is the audit's work."""
    if not path.exists():
        return
    for text in lines_backwards(path):
        try:
            line = line_of_ours(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            yield line
