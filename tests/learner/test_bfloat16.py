"""``train.bfloat16 = "weights"``: weights in bfloat16 under DeepSpeed, over float32 masters."""

import pytest
import torch
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.learner import checkpoint
from leeway_rl.learner.files import saved_weights
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.packing import empty_micro_batch
from leeway_rl.learner.policy import Policy
from odd_policy import BFLOAT16, equal, odd_config, odd_model, state_of, trained
from tiny_policy import make_config
from train_on_ranks import run
from two_ranks import on_two_ranks

pytestmark = pytest.mark.timeout(900)
STAGES = ("b1", "b2", "b3")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    return odd_model(tmp_path_factory.mktemp("odd"))


@pytest.fixture(scope="module")
def of_two(odd, tmp_path_factory):
    """A checkpoint of two ranks under every ZeRO stage, and what they had then and a step later."""
    out = tmp_path_factory.mktemp("two")
    on_two_ranks("change_ranks.py", odd, out, "begin", 2, *STAGES)
    return out


def left(folder, when):
    return torch.load(folder / "left.pt")[when]


@pytest.mark.parametrize("offload", [("b1", "none"), ("b2", "none"), ("b3", "none"), ("b1", "optimizer"),
                                     ("b3", "optimizer+parameters")])  # fmt: skip
def test_it_trains_near_float32_and_a_resumed_run_ends_with_the_same_weights(odd, tmp_path, offload):
    stage, where = offload
    config = odd_config(odd, stage, train__offload=where)
    straight, exact = Policy(config), Policy(odd_config(odd, stage[1:]))
    metrics, controller = run(straight, config, range(2), ControllerState())
    expected, _ = run(exact, exact.config, range(2), ControllerState())
    assert metrics["losses"] == pytest.approx(expected["losses"], abs=0.01)

    path = checkpoint.save(straight, tmp_path, 2, {}, keep=1)
    saved = saved_weights(path, straight.stage)
    for name, weight in straight.named_weights().items():
        assert torch.equal(saved[name].bfloat16().float(), weight), "published, and exported"
        assert torch.equal(weight.bfloat16().float(), weight), "bfloat16 has every bit of it"
    run(straight, config, range(2, 4), controller)
    resumed = Policy(config)
    checkpoint.load(resumed, path)
    run(resumed, config, range(2, 4), controller)
    weights = resumed.named_weights()
    assert all(torch.equal(weights[name], weight) for name, weight in straight.named_weights().items())
    assert resumed.sums() == straight.sums(), "the masters and moments too"


def test_masters_move_by_less_than_a_bit_of_the_weights_and_the_sums_see_it(odd):
    for stage in STAGES:
        config = odd_config(odd, stage, train__learning_rate=1e-9)
        policy = Policy(config)
        before, weights = policy.sums(), policy.named_weights()
        run(policy, config, range(1), ControllerState())
        assert all(torch.equal(weights[name], weight) for name, weight in policy.named_weights().items())
        after = policy.sums()
        assert after["weights"] == before["weights"]
        assert after["masters"] != before["masters"], stage


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_train_as_one_does_and_their_copies_agree(odd, of_two, stage):
    one = Policy(odd_config(odd, stage))
    trained(one, range(2))
    ours, two = state_of(one), left(of_two / f"zero-{stage}", "before")
    assert two["steps"] == [2.0]
    for name, weight in two["weights"].items():
        # A step at lr 1e-3 moves a weight by 1e-3, and where its gradient is next to nothing, to either side.
        torch.testing.assert_close(ours["weights"][name], weight, rtol=2**-7, atol=4e-3)
        assert (ours["weights"][name] - weight).abs().mean() < 2e-4


@pytest.mark.parametrize("stage", STAGES)
def test_a_checkpoint_of_two_ranks_goes_on_under_two_bit_for_bit(odd, of_two, stage):
    on_two_ranks("change_ranks.py", odd, of_two, "sums", f"zero-{stage}:{stage}")
    assert left(of_two / f"zero-{stage}-to-{stage}", "sums") == left(of_two / f"zero-{stage}", "sums")


@pytest.mark.parametrize("way", [("b1", "b1"), ("b2", "b2"), ("b3", "b3"), ("b1", "b2"), ("b2", "b1")])
def test_a_checkpoint_of_two_ranks_goes_on_under_one(odd, of_two, way):
    made, wanted = way
    policy = Policy(odd_config(odd, wanted))
    checkpoint.load(policy, checkpoint.newest(of_two / f"zero-{made}"))
    assert equal(state_of(policy), left(of_two / f"zero-{made}", "before"))
    trained(policy, range(2, 3))
    assert policy.sums()["steps"] == [3.0]


@pytest.mark.parametrize(("made", "wanted"), [("2", "b2"), ("b2", "2")])
def test_a_checkpoint_of_the_other_kind_is_refused(odd, of_two, made, wanted):
    names = {"2": "autocast", "b2": "weights"}
    message = f"written with train.bfloat16 = '{names[made]}', and this learner has '{names[wanted]}'"
    with pytest.raises(DataError, match=message):
        checkpoint.load(Policy(odd_config(odd, wanted)), checkpoint.newest(of_two / f"zero-{made}"))


def test_what_is_no_weight_stays_in_float32_and_the_reference_is_bfloat16_too(odd):
    """Frequencies of rotary positions in bfloat16 would be off by whole turns at 32,768 tokens."""
    policy = Policy(odd_config(odd, "b3", objective__kl_beta=0.1))
    for module in (policy.module, policy.reference.module):
        assert {buffer.dtype for buffer in module.buffers()} == {torch.float32}
        assert {parameter.dtype for parameter in module.parameters()} == {torch.bfloat16}
        assert not module.autocast
    assert load_module(make_config(odd))(empty_micro_batch()).logprobs_T.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__zero_stage": 0}, "train.zero_stage = 0: .* a zero_stage of at least 1, is right"),
        ({"train__zero_stage": 1, "model__dtype": "float32"}, "model.dtype = 'float32': .* so 'bfloat16' is right"),
        ({"train__zero_stage": 1, "weights__dtype": "float32"}, "weights.dtype = 'float32': .* every bit"),
    ],
)
def test_what_does_not_go_together_is_refused(changes, message):
    with pytest.raises(ConfigError, match=f"train.bfloat16 = 'weights' with {message}"):
        make_config("none", **(BFLOAT16 | changes))
