"""Which old checkpoints stay beside the newest: the one with the best evaluation (``train.keep_best``).

A follower of the run (``leeway eval follow``) leaves a folder ``evaluations/NAME/versions/VERSION-INCARNATION`` for
each version that it evaluates, and the results in ``evaluations/NAME/evaluations.jsonl``.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..common.json_text import line_of_ours
from ..common.tail import whole_lines

log = logging.getLogger(__name__)


def spared(run: Path, benchmark: str, checkpoints: Sequence[tuple[Path, int, int]]) -> set[Path]:
    """Those of ``checkpoints`` that must not be removed: the one whose version has the highest avg@n on ``benchmark``
    (the later one, where several have it), and those whose version is still being evaluated.

    ``run``: the run's folder. ``checkpoints``: path, training steps completed, and the incarnation that wrote it.
    """
    scores, others = dict[tuple[int, int], float](), set[str]()
    for line in _results(run):
        if line["benchmark"] == benchmark and "avg_at_n" in line:
            scores[line["version"], line["incarnation"]] = line["avg_at_n"]["value"]
        elif line["benchmark"] != benchmark:
            others.add(line["benchmark"])
    if others and not scores:
        log.warning("train.keep_best = %r: evaluations are of %s alone", benchmark, ", ".join(sorted(others)))
    under_way = {_stamp(path) for path in run.glob("evaluations/*/versions/*-*") if not (path / "eval.json").exists()}
    kept, rated = set[Path](), list[tuple[float, int, Path]]()
    for path, step, incarnation in checkpoints:
        # A learner that went back before this step has trained it anew; one that started from it publishes it again.
        found = [stamp for stamp in scores if stamp[0] == step and stamp[1] >= incarnation]
        if found:
            rated.append((scores[max(found)], step, path))
        elif any(version == step and by >= incarnation for version, by in under_way):
            kept.add(path)
    return kept | ({max(rated)[2]} if rated else set())


def _results(run: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(run.glob("evaluations/*/evaluations.jsonl")):
        try:
            with path.open("rb") as file:
                yield from [line_of_ours(text) for text in whole_lines(file)]
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read, so train.keep_best does not know of it: %s", path, error)


def _stamp(folder: Path) -> tuple[int, int]:
    version, incarnation = folder.name.split("-")
    return int(version), int(incarnation)


def incarnation_of(state: Path) -> int:
    """The incarnation of the learner that wrote the checkpoint with the file ``state``."""
    found: int = json.loads(state.read_text())["incarnation"]
    return found
