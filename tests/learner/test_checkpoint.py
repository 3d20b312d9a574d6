import gc
import json
from pathlib import Path

import pytest
import torch
from leeway_rl.common.errors import DataError
from leeway_rl.learner import checkpoint
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from tiny_policy import make_config
from train_on_ranks import config_of, run


@pytest.mark.parametrize(
    ("stage", "offload"),
    [(0, "none"), (1, "none"), (2, "none"), (3, "none"), (2, "optimizer"), (3, "optimizer+parameters")],
)
def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(model_path, tmp_path, stage, offload):
    config = config_of(model_path, stage, offload)
    straight = Policy(config)
    _, controller = run(straight, config, range(2), ControllerState())
    state = {"controller": controller.coefficient, "ledger": 17, "names": ["a", None]}
    path = checkpoint.save(straight, tmp_path, 2, state, keep=1)
    run(straight, config, range(2, 4), controller)

    resumed = Policy(config)
    assert checkpoint.load(resumed, checkpoint.newest(tmp_path)) == state
    run(resumed, config, range(2, 4), ControllerState(state["controller"]))
    assert path == tmp_path / "step-000002"
    expected, weights = straight.named_weights(), resumed.named_weights()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_the_optimizer_goes_on_by_this_learner_s_learning_rate_and_not_by_the_checkpoint_s(model_path, tmp_path, stage):
    config = config_of(model_path, stage)
    policy = Policy(config)
    run(policy, config, range(1), ControllerState())
    checkpoint.save(policy, tmp_path, 1, {}, keep=1)
    begun = policy.named_weights()
    run(policy, config, range(1, 2), ControllerState())
    faster = config.train.model_copy(update={"learning_rate": 8 * config.train.learning_rate})
    config = config.model_copy(update={"train": faster})
    forked = Policy(config)
    checkpoint.load(forked, checkpoint.newest(tmp_path))
    run(forked, config, range(1, 2), ControllerState())
    slow, fast = (
        torch.cat([(weight - begun[name]).flatten() for name, weight in each.named_weights().items()])
        for each in (policy, forked)
    )
    assert float(fast.norm() / slow.norm()) == pytest.approx(8, rel=1e-2)  # AdamW's step is in proportion to its rate


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_saved_weights_stay_in_their_file_until_they_are_copied_and_the_file_is_let_go_of(model_path, tmp_path, stage):
    policy = Policy(config_of(model_path, stage))
    run(policy, policy.config, range(1), ControllerState())
    path = checkpoint.save(policy, tmp_path, 1, {}, keep=1)
    file = next(path.rglob("*_model_states.pt"))

    def mapped() -> bool:
        gc.collect()
        return str(file) in Path("/proc/self/maps").read_text()

    resumed = Policy(policy.config)
    held = resumed.engine.checkpoint_engine.load(str(file))["module"]
    assert mapped()
    assert sum(tensor.numel() for tensor in held.values()) > 0
    del held
    checkpoint.load(resumed, path)
    assert not mapped()
    assert resumed.sums() == policy.sums()


def test_only_the_newest_are_kept_and_torn_or_unfinished_ones_are_passed_over(model_path, tmp_path):
    policy = Policy(make_config(model_path))
    assert checkpoint.newest(tmp_path / "none") is None
    for step in (1, 2, 3):
        checkpoint.save(policy, tmp_path, step, {"step": step}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000003"]

    (tmp_path / "step-000004.unfinished").mkdir()
    largest = max((tmp_path / "step-000003").rglob("*.pt"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    assert checkpoint.newest(tmp_path) == tmp_path / "step-000002"
    with pytest.raises(DataError, match="step-000003 is not complete"):
        checkpoint.load(policy, tmp_path / "step-000003")

    checkpoint.save(policy, tmp_path, 4, {}, keep=2)
    assert checkpoint.newest(tmp_path) == tmp_path / "step-000004"
    checkpoint.save(policy, tmp_path, 3, {"again": True}, keep=3)
    assert json.loads((tmp_path / "step-000003" / "state.json").read_text()) == {"again": True}


def test_what_a_crash_left_half_written_or_half_removed_is_swept_and_a_torn_newest_stays_to_be_looked_at(
    model_path, tmp_path
):
    policy = Policy(make_config(model_path))
    for step in (1, 2, 3):
        checkpoint.save(policy, tmp_path, step, {}, keep=3)
    (tmp_path / "step-000001" / checkpoint.STATE).unlink()
    (tmp_path / "step-000003" / checkpoint.STATE).unlink()
    (tmp_path / "step-000004.unfinished").mkdir()
    checkpoint.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002", "step-000003"]


def test_a_crash_while_writing_leaves_the_checkpoint_before(model_path, tmp_path, monkeypatch):
    policy = Policy(make_config(model_path))
    checkpoint.save(policy, tmp_path, 1, {}, keep=1)

    def crash(*_):
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint.os, "rename", crash)
    with pytest.raises(OSError, match="disk full"):
        checkpoint.save(policy, tmp_path, 2, {}, keep=1)
    assert checkpoint.newest(tmp_path) == tmp_path / "step-000001"
