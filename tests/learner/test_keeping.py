"""Which checkpoints stay beside the newest: the best by evaluations, and those under evaluation."""

import json
import os

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.weights import Stamp
from leeway_rl.evaluation import follow
from leeway_rl.learner import checkpoint, keeping
from leeway_rl.learner.background import CheckpointWriter
from test_background import Service, Weight


def evaluate(run, version, incarnation, scores, follower="follow"):
    """Leave what a follower leaves of a version; with no ``scores``, one that it is at."""
    out = run / "evaluations" / follower
    own = follow.folder_of(out, Stamp(incarnation, version))
    own.mkdir(parents=True, exist_ok=True)
    if scores:
        graded = {name: {} if value is None else {"avg_at_n": {"value": value}} for name, value in scores.items()}
        result = {"version": version, "incarnation": incarnation, "benchmarks": graded}
        (own / "eval.json").write_text(json.dumps(result))
        follow.write_lines(out)


def spared(run, *steps, benchmark="aime24"):
    """Names of the checkpoints that stay, of those after ``steps`` by incarnation 2."""
    found = keeping.spared(run, benchmark, [(run / f"step-{step}", step, 2) for step in steps])
    return sorted(path.name for path in found)


def test_the_best_stays_and_of_equals_the_later(tmp_path):
    assert spared(tmp_path, 10, 20) == []
    for version, score in ((10, 0.5), (20, 0.75), (30, 0.75), (40, 0.25)):
        evaluate(tmp_path, version, 2, {"aime24": score, "other": 1 - score})
    assert spared(tmp_path, 10, 20, 30, 40) == ["step-30"]
    assert spared(tmp_path, 10, 20, 40) == ["step-20"], "what is gone is not missed"
    assert spared(tmp_path, 10, 20, 30, 40, benchmark="other") == ["step-40"]


def test_what_is_still_being_evaluated_stays_too(tmp_path):
    evaluate(tmp_path, 10, 2, {"aime24": 0.5})
    evaluate(tmp_path, 20, 2, {})
    assert spared(tmp_path, 10, 20, 30) == ["step-10", "step-20"]
    evaluate(tmp_path, 20, 2, {"aime24": 0.25})
    assert spared(tmp_path, 10, 20, 30) == ["step-10"]


def test_an_evaluation_of_weights_that_were_rolled_back_says_nothing_of_those_made_anew(tmp_path):
    evaluate(tmp_path, 10, 1, {"aime24": 0.9})  # incarnation 2 has trained step 10 again
    evaluate(tmp_path, 20, 3, {"aime24": 0.5})  # incarnation 3 started from the checkpoint, and published it again
    assert spared(tmp_path, 10, 20) == ["step-20"]


def test_an_ungraded_benchmark_and_a_damaged_file_are_passed_over_and_another_name_is_told(tmp_path, caplog):
    evaluate(tmp_path, 10, 2, {"aime24": None})
    (tmp_path / "evaluations/broken").mkdir()
    (tmp_path / "evaluations/broken/evaluations.jsonl").write_text("[1, 2\n")
    assert spared(tmp_path, 10) == []
    assert "cannot be read, so train.keep_best does not know of it" in caplog.text
    evaluate(tmp_path, 10, 2, {"math500": 0.5}, follower="other")
    assert spared(tmp_path, 10) == []
    assert "train.keep_best = 'aime24': evaluations are of math500 alone" in caplog.text


@pytest.mark.parametrize(("best", "left"), [(None, [40]), ("aime24", [20, 40])])
def test_the_writer_removes_all_others(tmp_path, best, left):
    settings = ["train.keep_checkpoints=1", "train.async_checkpoint=false"]
    settings += [f"train.keep_best={best}"] if best else []
    writer = CheckpointWriter(Weight(), Service(), tmp_path / "checkpoints", compose(["tiny"], settings).train)
    for step, score in ((10, 0.25), (20, 0.5), (30, 0.25), (40, 0.25)):
        writer.save(step, {"incarnation": 2})
        evaluate(tmp_path, step, 2, {"aime24": score})
    found = [checkpoint.step_of(path) for path in checkpoint.complete(tmp_path / "checkpoints")]
    assert sorted(found) == left
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [f"step-{step:06d}" for step in left]
