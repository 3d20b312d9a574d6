import pytest
import torch
from leeway_rl.common.errors import ConfigError
from leeway_rl.learner import host_copies
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from tiny_policy import make_config, make_model
from train_on_ranks import run


@pytest.fixture
def moved(monkeypatch):
    """Shapes of what went to the host."""
    shapes, away = [], host_copies.away

    def spy(tensor):
        kept = away(tensor)
        if isinstance(kept, tuple):
            assert kept[1].untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr(), "a copy"
            shapes.append(tuple(tensor.shape))
        return kept

    monkeypatch.setattr(host_copies, "away", spy)
    return shapes


@pytest.mark.parametrize(("stage", "dtype"), [(0, "float32"), (2, "bfloat16"), (3, "float32")])
def test_inputs_kept_on_the_host_change_no_bit(tmp_path, moved, stage, dtype):
    """ZeRO 3 takes the other kind of checkpointing."""
    path = make_model(tmp_path / "model", num_hidden_layers=5)
    found = []
    for offload in (False, True):
        config = make_config(
            path,
            train__zero_stage=stage,
            train__gradient_checkpointing=True,
            train__offload_activations=offload,
            model__dtype=dtype,
        )
        policy = Policy(config)
        metrics, _ = run(policy, config, range(2), ControllerState())
        found.append((policy.named_weights(), metrics["losses"], metrics["grad_norm"]))
        assert bool(moved) == offload
    (weights, *measured), (offloaded, *measured_offloaded) = found
    assert all(torch.equal(weights[name], offloaded[name]) for name in weights)
    assert measured == measured_offloaded


def test_what_goes_to_the_host_is_each_layers_input_and_little_else(tmp_path, moved):
    """Five layers or two: three inputs more, and nothing else."""
    counts = []
    for layers in (2, 5):
        config = make_config(
            make_model(tmp_path / str(layers), num_hidden_layers=layers),
            train__gradient_checkpointing=True,
            train__offload_activations=True,
            train__micro_batch_tokens=4096,
        )
        moved.clear()
        run(Policy(config), config, range(1), ControllerState())
        assert {len(shape) for shape in moved} == {3}, "[1, L, H]; of the last norm also [1, L, 1]"
        counts.append(len(moved))
    assert counts[1] - counts[0] == 3


def test_it_needs_checkpointing():
    with pytest.raises(ConfigError, match=r"train.gradient_checkpointing = false: every activation would go"):
        make_config("none", train__offload_activations=True)
