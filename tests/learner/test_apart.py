"""Two real ranks where one has a disk of its own, or other contents on it: every rank is told, and none waits."""

import json
import os
from pathlib import Path

import pytest
from leeway_rl.learner import checkpoint
from leeway_rl.learner.alike import differences
from odd_policy import odd_model
from safetensors.torch import load_file, save_file
from two_ranks import on_two_ranks

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each rank was told in each case; one launch."""
    home = tmp_path_factory.mktemp("apart")
    model, other = odd_model(home / "model"), odd_model(home / "other")
    weights = load_file(Path(other) / "model.safetensors")
    last = sorted(weights)[-1]
    save_file(weights | {last: weights[last] * 1.5}, Path(other) / "model.safetensors", metadata={"format": "pt"})
    on_two_ranks("apart_on_ranks.py", model, other, home)
    return lambda name: [json.loads((home / f"{name}-{rank}.json").read_text()) for rank in (0, 1)], home


@pytest.mark.parametrize(
    ("case", "kinds", "words"),
    [
        (
            "folders_apart_at_save",
            ["RankFailed", "DataError"],
            "node-1/step-000001.unfinished: rank 0 has",
        ),
        (
            "part_not_seen_at_save",
            ["DataError", "RankFailed"],
            "rank 1 (HOST) has written",
        ),
        ("folders_apart_at_load", ["RankFailed", "DataError"], "node-1/step-000001 is not complete"),
        (
            "another_checkpoint_on_one_node",
            ["DataError", "DataError"],
            "not the same on rank 1 (HOST) as on rank 0",
        ),
        ("damaged_bytes", ["none", "none"], ""),
        ("part_of_another_step", ["DataError", "DataError"], "was not loaded as it was saved: "),
        ("write_fails_on_one_rank", ["RankFailed", "RuntimeError"], ""),
        ("no_room_on_one_rank", ["NoRoom", "NoRoom"], "no_room_on_one_rank/step-000001.unfinished is full"),
        (
            "model_missing_on_one_rank",
            ["RankFailed", "DataError"],
            "model_missing_on_one_rank/none: there is no such folder",
        ),
        (
            "other_weights_on_one_rank",
            ["DataError", "DataError"],
            "ranks do not read the same: weights: ",
        ),
        ("equal_copies_of_the_model", ["none", "none"], ""),
        ("other_model_files_on_one_rank", ["DataError", "DataError"], "model file model.safetensors: "),
        ("other_configuration_on_one_rank", ["DataError", "DataError"], "configuration train.learning_rate: 0.001 on "),
        ("all_the_same", ["none", "none"], ""),
    ],
)
def test_what_one_rank_alone_has_ends_on_both_with_its_name(told, case, kinds, words):
    read, _ = told
    for (kind, text), expected in zip(read(case), kinds, strict=True):
        assert kind == expected, text
        assert words.replace("HOST", os.uname().nodename) in text


def test_a_write_that_fails_leaves_the_checkpoint_before_and_one_without_room_is_whole_at_the_next_try(told):
    read, home = told
    assert read("write_fails_on_one_rank")[0][1].startswith(f"rank 1 ({os.uname().nodename}): RuntimeError: ")
    names = [path.name for path in checkpoint.complete(home / "write_fails_on_one_rank")]
    assert names == ["step-000001"]
    assert [path.name for path in checkpoint.complete(home / "no_room_on_one_rank")] == ["step-000001"]


def test_the_list_has_the_size_and_digest_of_every_ranks_files(told):
    _, home = told
    path = home / "all_the_same/step-000001"
    made = json.loads((path / checkpoint.COMPLETE).read_text())
    files = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()} - {checkpoint.COMPLETE}
    assert set(made["files"]) == set(made["sha256"]) == files
    assert sum("zero_pp_rank_" in name for name in files) == 2
    assert made["sums"]["steps"] == [1.0]


def test_only_what_differs_is_named_and_by_the_first_rank_that_has_it():
    same = {"version of torch": "2.13.0", "run": "a"}
    assert differences(["x", "y"], [same, dict(same)]) is None
    said = differences(["x", "y", "z"], [same, dict(same), same | {"version of torch": "2.14.0"}])
    assert "version of torch: 2.13.0 on rank 0 (x), 2.14.0 on rank 2 (z)" in said
    assert "run" not in said.replace("ranks", "").split("Every")[0]
    many = {f"key {number}": "1" for number in range(6)}
    assert "; and 2 more. " in differences(["x", "y"], [many, dict.fromkeys(many, "2")])
    assert "key 1: 1 on rank 0 (x), not there on rank 1 (y)" in differences(["x", "y"], [{"key 1": "1"}, {}])
