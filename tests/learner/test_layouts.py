"""A checkpoint goes on under another number of ranks or ZeRO stage, by DeepSpeed's universal checkpoint."""

import pytest
import torch
from leeway_rl.common.errors import DataError
from leeway_rl.learner import checkpoint
from leeway_rl.learner import policy as policies
from leeway_rl.learner.policy import Policy
from odd_policy import equal, odd_config, odd_model, state_of, trained
from two_ranks import on_two_ranks

pytestmark = pytest.mark.timeout(900)
WAYS = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (0, 0)]
"""ZeRO stages that DeepSpeed goes between, from and to."""
TOLERANCE = 2e-6
"""One rank adds gradients in another order than two; a step at lr 1e-3 moves a weight by 1e-3."""


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return odd_model(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def of_two(odd, tmp_path_factory):
    """A checkpoint of two ranks under every ZeRO stage, and what they had then and a step later."""
    out = tmp_path_factory.mktemp("two")
    on_two_ranks("change_ranks.py", odd, out, "begin", 0, 1, 2, 3)
    return out


def left(folder, when):
    return torch.load(folder / "left.pt")[when]


@pytest.fixture(scope="module")
def under_one(odd, of_two):
    """Every checkpoint of two ranks loaded under one rank, by the ZeRO stages from and to: what was loaded, a
    checkpoint made of it at once, and what one more step gives."""
    found = {}
    for made, wanted in WAYS:
        policy = Policy(odd_config(odd, wanted))
        assert checkpoint.load(policy, checkpoint.newest(of_two / f"zero-{made}")) == {"made by": str(made)}
        before = state_of(policy)
        checkpoint.save(policy, of_two / f"one-{made}-{wanted}", 2, {}, keep=1)
        trained(policy, range(2, 3))
        found[made, wanted] = {"before": before, "after": state_of(policy)}
    return found


@pytest.mark.parametrize("way", WAYS)
def test_two_ranks_checkpoint_goes_on_under_one_with_every_bit_and_the_same_next_step(of_two, under_one, way):
    folder = of_two / f"zero-{way[0]}"
    assert equal(under_one[way]["before"], left(folder, "before"))
    expected, found = left(folder, "after"), under_one[way]["after"]
    assert found["steps"] == expected["steps"] == [3.0]
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(found["weights"][name], weight, rtol=0, atol=TOLERANCE)
    assert not list(folder.glob("*.unfinished")), "what was converted is removed"


def test_a_checkpoint_that_went_through_one_rank_comes_back_to_two_as_if_it_had_stayed(odd, of_two, under_one):
    """Two ranks, one, two: the next step is bit for bit that of the two ranks that never changed."""
    assert under_one
    ways = {"one-1-2:1": "zero-1", "one-3-3:3": "zero-3", "one-0-0:0": "zero-0"}
    on_two_ranks("change_ranks.py", odd, of_two, "go-on", *ways)
    for way, stayed in ways.items():
        for when in ("before", "after"):
            assert equal(left(of_two / way.replace(":", "-to-"), when), left(of_two / stayed, when)), way


def test_under_one_rank_zero_1_goes_on_as_zero_2_bit_for_bit(odd, tmp_path):
    stayed = Policy(odd_config(odd, 1))
    trained(stayed, range(2))
    path = checkpoint.save(stayed, tmp_path, 2, {}, keep=1)
    trained(stayed, range(2, 4))
    changed = Policy(odd_config(odd, 2))
    checkpoint.load(changed, path)
    trained(changed, range(2, 4))
    assert equal(state_of(changed), state_of(stayed))


@pytest.mark.parametrize(("stage", "offload"), [(2, "optimizer"), (3, "optimizer+parameters")])
def test_a_converted_checkpoint_goes_on_with_offload_in_the_kernel_that_this_learner_uses(odd, of_two, stage, offload):
    policy = Policy(odd_config(odd, stage, train__offload=offload))
    checkpoint.load(policy, checkpoint.newest(of_two / f"zero-{stage}"))
    assert all(group["fused"] for group in policy.adamw.param_groups)
    trained(policy, range(2, 3))
    expected = left(of_two / f"zero-{stage}", "after")
    assert policy.sums()["steps"] == [3.0]
    for name, weight in policy.named_weights().items():
        torch.testing.assert_close(weight, expected["weights"][name], rtol=0, atol=TOLERANCE)


def test_a_model_in_several_parts_counts_its_steps_once(odd, of_two, monkeypatch):
    """DeepSpeed steps a large model in parts of a billion parameters, and gives all of them one counter to share."""
    settings = policies.deepspeed_settings

    def small_parts(config):
        found = settings(config)
        return found | {"zero_optimization": found["zero_optimization"] | {"sub_group_size": 5000}}

    monkeypatch.setattr(policies, "deepspeed_settings", small_parts)
    policy = Policy(odd_config(odd, 3))
    checkpoint.load(policy, checkpoint.newest(of_two / "zero-3"))
    assert len(policy.adamw.state) > 1
    trained(policy, range(2, 3))
    assert policy.sums()["steps"] == [3.0]
    expected = left(of_two / "zero-3", "after")
    for name, weight in policy.named_weights().items():
        torch.testing.assert_close(weight, expected["weights"][name], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("made", "wanted"), [(0, 1), (1, 0), (1, 3), (3, 2)])
def test_where_deepspeed_cannot_the_refusal_says_what_can(odd, of_two, made, wanted):
    possible = {0: "0", 1: "1 or 2", 3: "3"}[made]
    with pytest.raises(DataError, match=rf"ZeRO {made} \(ranks: 2\).*go on with train.zero_stage = {possible}$"):
        checkpoint.load(Policy(odd_config(odd, wanted)), checkpoint.newest(of_two / f"zero-{made}"))


def test_a_conversion_that_fails_says_why_and_leaves_the_checkpoint(odd, of_two, tmp_path):
    import shutil

    path = tmp_path / "step-000002"
    shutil.copytree(checkpoint.newest(of_two / "zero-1"), path)
    (tmp_path / "step-000002.universal.unfinished").write_text("a file stands where the folder is to be made")
    with pytest.raises(DataError, match=r"DeepSpeed could not convert .*step-000002"):
        checkpoint.load(Policy(odd_config(odd, 1)), path)
    assert checkpoint.is_complete(path)
