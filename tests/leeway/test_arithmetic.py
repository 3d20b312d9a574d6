"""The arithmetic of --dry-run against numbers worked by hand, and its activations against what torch keeps."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.flops import flops_per_token
from leeway_rl.common.rope import Context
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.planning.arithmetic import BASES, Gpu, Shape, describe, shape_of, why_not
from leeway_rl.leeway.planning.arithmetic import learner as rank
from leeway_rl.leeway.planning.arithmetic.asked import asked_of, learner_of
from leeway_rl.leeway.planning.arithmetic.fitting import longest_row
from leeway_rl.leeway.planning.arithmetic.host import learner_host, loading, shared_memory
from leeway_rl.leeway.planning.arithmetic.learner import (
    Learner,
    layer_bytes,
    moments,
    peak,
    states,
    total,
    update,
    whole_references,
)
from leeway_rl.leeway.planning.arithmetic.page import redis_bytes, speeds
from leeway_rl.leeway.planning.arithmetic.rollout import kv_bytes_a_token
from leeway_rl.leeway.planning.arithmetic.shapes import why_unknown
from leeway_rl.leeway.planning.arithmetic.storage import checkpoint_bytes, group_bytes, groups_in_redis
from leeway_rl.leeway.running.dry_run import arithmetic
from typer.testing import CliRunner

from tests.architectures import ARCHITECTURES
from tests.model_folders import change
from tests.programs import said_by

ROOT = Path(__file__).resolve().parents[2]
EXPERTS = {"num_experts", "num_local_experts", "n_routed_experts"}
SMALL = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
SEVEN = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
THIRTY_TWO = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"


@pytest.mark.parametrize(
    ("name", "parameters"), [(SMALL, 1_777_088_000), (SEVEN, 7_615_616_512), (THIRTY_TWO, 32_763_876_352)]
)
def test_the_known_bases_have_the_parameters_of_their_model_cards(name, parameters):
    assert BASES[name].parameters == parameters


def test_a_local_model_is_read_from_its_folder(tiny_model):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = shape_of(str(tiny_model))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = AutoConfig.from_pretrained(tiny_model)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (shape.layers, shape.hidden, shape.vocabulary) == (2, 128, 20)
    assert shape.head_dim == config.hidden_size // config.num_attention_heads
    assert shape_of("{presets}/tiny/model") == shape


def test_a_folder_without_weights_is_counted_by_its_sizes(tiny_model, tmp_path):
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    assert shape_of(str(tmp_path)) == replace(shape_of(str(tiny_model)), weights_here=False)


@pytest.mark.parametrize(
    "kind",
    [each.kind for each in ARCHITECTURES if not (each.refused or each.kind == "gpt2" or EXPERTS & {*each.keys})],
)
def test_config_json_alone_tells_how_many_parameters_transformers_would_make(kind, tmp_path):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    keys = {"hidden_size": 2048, "intermediate_size": 6000, "num_attention_heads": 16, "head_dim": 128}
    keys |= {"num_hidden_layers": 8, "vocab_size": 100_000, "pad_token_id": None}
    keys |= {"num_key_value_heads": 4} if kind != "gpt_neox" else {}
    config = AutoConfig.for_model(kind, **keys)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    if config.tie_word_embeddings:  # it is left out where it is the family's default
        change(tmp_path / "config.json", tie_word_embeddings=None)
    assert shape_of(str(tmp_path)).parameters == pytest.approx(made.num_parameters(), rel=1e-3)


def test_weights_that_are_not_whole_are_refused_and_not_counted_as_if_they_were(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(DataError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        shape_of(str(folder))


def test_a_page_says_that_its_parameters_are_counted_without_the_weights(tiny_model, tmp_path):
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    said = f"# the weights of {tmp_path} are not here: parameters are counted from its config.json"
    for path, count in ((tmp_path, 1), (tiny_model, 0)):
        config = compose(["tiny"], [f"model.path={path}"])
        assert describe(config, shape_of(str(path))).splitlines().count(said) == count


def test_a_version_that_redis_should_not_hold_is_refused_by_its_parameters_alone():
    with pytest.raises(ConfigError, match=r"weights\.transport"):
        arithmetic(compose(["skywork-or1-7b"], ["weights.transport=redis"]))


def test_a_model_of_unknown_shape_is_called_unknown(tmp_path):
    (tmp_path / "config.json").write_text('{"n_layer": 12}')
    assert shape_of(str(tmp_path)) is None
    assert "does not say its sizes" in why_unknown(str(tmp_path))
    assert "a folder with its config.json, even without weights, is enough" in why_unknown(str(tmp_path / "gone"))
    assert shape_of("somebody/something") is None
    page = describe(compose(["tiny"], ["model.path=somebody/something"]), None)
    assert "memory: unknown. somebody/something is not in the hub's cache here: fetch its sizes with hf down" in page
    assert "(1 + 1) x 16 = 32" in page


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"moe_num_experts": [64, 64]}, "has experts (moe_num_experts in its config.json)"),
        ({"num_experts": "8"}, "has experts (num_experts in its config.json)"),
        ({"num_attention_heads": 0}, "does not say its sizes"),
        ({"num_hidden_layers": 0}, "does not say its sizes"),
        ({"head_dim": "wide"}, "does not say its sizes"),
    ],
)
def test_what_is_no_size_in_config_json_is_called_so(keys, why, tiny_model, tmp_path):
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    change(tmp_path / "config.json", **keys)
    assert shape_of(str(tmp_path)) is None
    assert why in why_unknown(str(tmp_path))


@pytest.mark.parametrize("keys", [{"rope_scaling": "yarn", "rope_parameters": None}, {"model_type": ["qwen2"]}])
def test_a_key_of_another_type_does_not_end_a_plan_with_a_trace(keys, tiny_model, tmp_path):
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    change(tmp_path / "config.json", **keys)
    assert shape_of(str(tmp_path)) is not None


def test_experts_are_not_counted_as_if_there_were_one(tiny_model, tmp_path):
    keys = json.loads((tiny_model / "config.json").read_text()) | {"num_experts": 8}
    (tmp_path / "config.json").write_text(json.dumps(keys))
    assert shape_of(str(tmp_path)) is None
    assert "has experts (num_experts in its config.json)" in why_unknown(str(tmp_path))


SHAPE = Shape(
    layers=2,
    hidden=100,
    intermediate=400,
    heads=4,
    kv_heads=2,
    head_dim=25,
    vocabulary=1000,
    parameters=1_000_000,
    context=Context(64, "max_position_embeddings = 64"),
)


def state_bytes(*settings):
    """(device, host) bytes a parameter of weights, gradients and optimizer."""
    config = compose(["tiny"], [f"train.{setting}" for setting in settings])
    parts = [part for part in states(learner_of(config, Gpu()), SHAPE) if part.name != "bucket of gradients"]
    return (sum(part.device for part in parts) / 1e6, sum(part.host for part in parts) / 1e6)


@pytest.mark.parametrize(
    ("settings", "device", "host"),
    [
        (("zero_stage=0", "ranks=4"), 4 + 4 + 8, 0),
        (("zero_stage=1", "ranks=4"), 4 + 4 + 12 / 4, 0),
        (("zero_stage=2", "ranks=4"), 4 + 4 / 4 + 12 / 4, 0),
        (("zero_stage=3", "ranks=4"), 20 / 4, 0),
        (("zero_stage=2", "ranks=4", "offload=optimizer"), 4, (4 + 12 + 4) / 4 + 4),
        (("zero_stage=3", "ranks=4", "offload=optimizer"), 4 / 4, (4 + 12 + 4) / 4),
        (("zero_stage=3", "ranks=4", "offload=optimizer+parameters"), 0, (4 + 4 + 12 + 4) / 4),
    ],
)
def test_states_are_spread_and_offloaded_by_zero_stage(settings, device, host):
    assert state_bytes(*settings) == pytest.approx((device, host))


def test_at_zero_1_the_update_over_bfloat16_weights_finds_the_other_ranks_sums_still_there():
    """Counted on one rank and two, by tests/proofs/dry_run_memory.py: 8 and 4 bytes a parameter."""

    def update_bytes(ranks, precision):
        learner = Learner(ranks=ranks, zero_stage=1, precision=precision, tokens=64, logits_bytes=None)
        return sum(part.device for part in update(learner, SHAPE)) / SHAPE.parameters

    assert [update_bytes(ranks, "bfloat16") for ranks in (1, 2)] == [8, 4]
    assert [update_bytes(ranks, "autocast") for ranks in (1, 2)] == [8, 2]


def test_activations_of_a_7b_layer_by_hand():
    assert layer_bytes(BASES[SEVEN], "autocast") == 26 * 3584 + 6 * 3584 + 4 * 512 + 8 * 18944 + 4 * 28 + 8 == 268_408
    assert layer_bytes(BASES[SEVEN], "float32") == 36 * 3584 + 8 * 512 + 16 * 18944 + 120


@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
def test_activations_are_what_torch_keeps_for_the_backward_pass(precision):
    """Of the four layers more that the larger model has; weights and their casts not counted."""
    # In a process of its own: DeepSpeed's ZeRO 3, once used, keeps its own linear function in torch.
    code = f"from tests.leeway.test_arithmetic import kept_bytes as k; print(k(6, '{precision}') - k(2, '{precision}'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    kept = int(done.stdout)
    casts = 4 * 2 * (2 * 64 * 128 + 2 * 64 * 32 + 3 * 64 * 256) if precision == "autocast" else 0
    sizes = {"hidden": 64, "intermediate": 256, "heads": 8, "kv_heads": 2, "head_dim": 16, "vocabulary": 50}
    shape = Shape(layers=6, parameters=1, context=Context(64, ""), **sizes)
    assert kept - casts == 4 * layer_bytes(shape, precision) * 60


def kept_bytes(layers, precision):
    import torch
    from leeway_rl.learner import attention
    from transformers import AutoModelForCausalLM, Qwen2Config

    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16}
    config = Qwen2Config(**sizes, **heads)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.register())
    model.to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor too: its address must not be used again
        return tensor

    positions = torch.arange(60)[None]
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"),
    ):
        tokens = torch.ones_like(positions)
        model.model(input_ids=tokens, position_ids=positions, use_cache=False, layout=((20, 40),))
    return sum(size for size, _ in kept.values())


def test_a_token_of_a_7b_takes_56_kib_of_cache():
    assert kv_bytes_a_token(BASES[SEVEN], 2) == 2 * 28 * 4 * 128 * 2 == 56 * 1024


@pytest.mark.timeout(900)
@pytest.mark.slow
def test_the_arithmetic_is_within_a_tenth_of_what_torch_holds_for_small_models():
    said = said_by(ROOT / "tests/proofs/dry_run_memory.py", "--small")
    assert "allowed 10 %" in said


def test_the_moment_that_takes_the_most_is_the_peak_and_the_others_are_named():
    learner = Learner(tokens=1000, precision="autocast", checkpointing=True, logits_bytes=None)
    found, at = peak(learner, SHAPE), moments(learner, SHAPE)
    assert found.device == total(states(learner, SHAPE)) + max(total(parts) for parts in at.values())
    assert {found.name, *found.others} == {"token op", "backward", "reduction", "update"}


def test_a_gpu_has_bfloat16_factors_and_a_cpu_has_none_unless_the_weights_are_bfloat16():
    def op(**how):
        return total(rank.token_op(Learner(tokens=64, **how), SHAPE))

    both = 2 * 4 * 64 * 1000 + 2 * 4 * 16 * 1000 + 4 * 100_000
    assert op(logits_bytes=None) == both + 4 * 100 * 64
    assert op(logits_bytes=None, precision="bfloat16") == both + 2 * 100 * 64 + 4 * 100_000
    assert op() == both + 4 * 100 * 64 + 2 * 100_000 + 2 * 64 * 1000
    assert op(precision="bfloat16") == both + 2 * 100 * 64 + 2 * 64 * 1000
    assert op(precision="float32") == both + 4 * 100 * 64


def test_a_chunk_on_a_gpu_is_a_power_of_two_of_tokens_that_its_share_of_the_memory_holds():
    config = compose(["tiny"], ["model.dtype=bfloat16", "train.micro_batch_tokens=100000"])
    learner = learner_of(config, Gpu())
    assert learner.rows(152_064) == 2048  # 0.05 x 80 GB / (10 x 152,064) = 2,630
    assert learner_of(config, Gpu(bytes=40e9)).rows(152_064) == 1024
    assert learner_of(config, Gpu(), on_gpu=False).rows(152_064) == 2**25 // 152_064


def test_deepspeed_s_bfloat16_mode_has_narrow_weights_over_masters():
    config = compose(["skywork-or1-7b"], ["train.bfloat16=weights", "train.offload=none"])
    found = {part.name: part.device for part in states(learner_of(config, Gpu()), SHAPE)}
    assert found.pop("bucket of gradients") == 1e9
    assert sum(found.values()) == (2 + 4 + 12) * 1e6 / 4


def test_inputs_of_layers_wait_on_the_host_by_key():
    def inputs(*settings):
        learner = learner_of(compose(["skywork-or1-32b"], settings), Gpu())
        return next((each.device, each.host) for each in rank.kept(learner, SHAPE) if each.name.startswith("inputs"))

    size = 2 * 26_624 * 100 * 2
    assert inputs("train.bfloat16=weights", "train.offload_activations=false") == (size, 0)
    assert inputs("train.bfloat16=weights", "train.offload_activations=true") == (0, size)
    assert inputs("train.bfloat16=autocast", "train.offload_activations=false") == (2 * size, 0)


def test_the_copy_of_the_gradients_is_counted_where_it_lies():
    def copied(*settings):
        config = compose(["tiny"], ["metrics.gradient_cosine=true", *settings])
        parts = states(learner_of(config, Gpu()), SHAPE)
        return [(part.device, part.host) for part in parts if part.name == "gradients of the update before"]

    assert copied("train.ranks=4") == [(4e6, 0.0)]
    assert copied("train.ranks=4", "train.zero_stage=1") == [(1e6, 0.0)]
    assert copied("train.ranks=4", "train.zero_stage=3", "train.offload=optimizer") == [(0.0, 1e6)]
    assert copied("metrics.gradient_cosine=false") == []


def test_the_reference_is_shared_over_ranks_at_every_zero_stage_unless_it_has_gpus_of_its_own():
    def reference(*settings):
        config = compose(["tiny"], ["objective.kl_beta=0.1", *settings])
        return sum(part.device for part in states(learner_of(config, Gpu()), SHAPE) if part.name == "reference model")

    assert reference("train.ranks=1") == 4e6
    assert reference("train.ranks=1", "objective.kl_beta=0", "metrics.kl_every=50") == 4e6
    assert reference("train.ranks=1", "objective.kl_beta=0") == 0
    assert {reference("train.ranks=4", f"train.zero_stage={stage}") for stage in range(4)} == {1e6}
    own = ["placement.reference=own", "placement.learner=gpu"]
    assert reference("train.ranks=4", *own) == 0
    later = "stages=[{from_step=3,kl_beta=0.1},{from_step=5,kl_beta=0}]"
    config = compose(["tiny"], [later])
    assert states(learner_of(config, Gpu()), SHAPE)[-1].name == "reference model"
    assert [asked_of(view).passes_before for view in config.views()] == [1, 2, 1]
    config = compose(["skywork-or1-32b"], ["objective.kl_beta=0.1", "train.bfloat16=autocast", *own])
    assert "a reference needs 131 GB of a GPU of its own" in why_not(config, BASES[THIRTY_TWO], Gpu())


# --- hosts, Redis, disk ----------------------------------------------------------------------------------------------


def test_every_reference_of_its_own_size_is_held_from_the_start():
    sets = ['objective.reference="deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"', "objective.kl_beta=0.1"]
    config = compose(["skywork-or1-32b"], [*sets, "train.ranks=4", "train.bfloat16=weights"])
    (held,) = [part for part in states(learner_of(config, Gpu()), BASES[THIRTY_TWO]) if "reference" in part.name]
    assert held.device == 2 * BASES[SEVEN].parameters / 4
    both = compose(
        ["skywork-or1-32b"], [*sets, 'stages=[{from_step=3,reference="deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"}]']
    )
    learner = learner_of(both, Gpu())
    assert learner.references == (BASES[SEVEN].parameters, None)
    assert whole_references(learner, SHAPE) == learner.width * (BASES[SEVEN].parameters + SHAPE.parameters)


def test_the_page_has_the_other_keys_that_stages_change_and_no_more():
    config = compose(["tiny"], ["stages=[{from_step=3,kl_beta=0.1,learning_rate=5e-5,temperature=0.7},{from_step=9}]"])
    page = [line.removeprefix("# ").split() for line in describe(config, SHAPE).splitlines()]
    assert ["train.learning_rate", "0.0001", "5e-05", "5e-05"] in page
    assert ["objective.kl_beta", "0.0", "0.1", "0.1"] in page
    assert not [row for row in page if row and row[0].startswith(("objective.clip", "entropy.", "train.group"))]


def test_payloads_stay_in_redis_until_a_checkpoint_covers_them():
    config = compose(["skywork-or1-7b"], [])
    group = group_bytes(group_size=16, response=16_384, prompt=2048, vocabulary=152_064)
    assert group == 16 * 16_384 * 8 + 2048 * 4
    assert redis_bytes(config, 152_064, beside=False) == 21 * 256 * group == pytest.approx(11.3e9, rel=0.01)
    counted = groups_in_redis(groups_per_step=4, max_staleness=2, checkpoint_every=5, beside=True)
    assert counted == (3 + 2 * 5) * 4


def test_a_simulated_run_never_has_more_in_redis_than_the_page_says():
    from leeway_rl.leeway.planning.preset import system_of
    from leeway_rl.leeway.planning.simulate import simulate

    settings = ["train.groups_per_step=8", "train.minibatch_groups=8", "train.checkpoint_every=3", "stages=[]"]
    config = compose(["skywork-or1-7b"], [*settings, "flow.max_staleness=2", "rollout.workers=4"])
    system = system_of(config, BASES[SEVEN], Gpu(), mean=16_384, sigma=0.0, longest=None)
    assert 0 < simulate(system).peak_bytes <= redis_bytes(config, 152_064, beside=False)


def test_a_node_of_ranks_reads_its_share_and_the_largest_tensor_under_zero_3_and_else_the_whole():
    shape = BASES[SEVEN]
    shared = loading(Learner(tokens=1, ranks=16, zero_stage=3), shape, ranks_a_node=8).host
    assert shared == 8 * (4 * shape.parameters / 16 + 4 * 152_064 * 3584)
    assert loading(Learner(tokens=1, ranks=8, zero_stage=2), shape, ranks_a_node=8).host == 8 * 4 * shape.parameters


def test_hosts_by_hand():
    learner = Learner(tokens=1, ranks=16, zero_stage=3, offload="optimizer")
    held = {part.name: part.host for part in learner_host(learner, SHAPE, ranks_a_node=8, snapshot=True)}
    assert held == {
        "what is offloaded": 8 * 20e6 / 16,
        "a version to publish": 4.5e6,
        "a checkpoint being written": 12e6 / 2,
    }
    second = learner_host(Learner(tokens=1, ranks=16, zero_stage=2), SHAPE, ranks_a_node=8, snapshot=True)
    assert {part.name: part.host for part in second}["a checkpoint being written"] == 4e6 + 12e6 / 2
    on_the_step = learner_host(learner, SHAPE, ranks_a_node=8, snapshot=False)
    assert [part.name for part in on_the_step] == ["what is offloaded", "a version to publish"]
    assert shared_memory(SHAPE, width=2).host == 4e6


@pytest.mark.parametrize("stage", [0, 1])
def test_a_checkpoint_has_the_bytes_that_the_page_says(stage, tiny_model, tmp_path):
    from leeway_rl.learner.policy import Policy

    config = compose(["tiny"], [f"train.zero_stage={stage}"])
    policy = Policy(config)
    for parameter in policy.adamw.param_groups[0]["params"]:  # as after a step
        state = policy.adamw.state[parameter]
        state |= {"step": parameter.new_zeros(()), "exp_avg": parameter * 0, "exp_avg_sq": parameter * 0}
    policy.snapshot(copied=False)(tmp_path)
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert written == pytest.approx(checkpoint_bytes(shape_of(str(tiny_model)), zero_stage=stage), rel=0.05)


# --- speed -----------------------------------------------------------------------------------------------------------


def test_operations_of_a_token_by_hand():
    layer = 2 * (2 * 100 * 100 + 2 * 100 * 50 + 3 * 100 * 400)
    assert flops_per_token(SHAPE, 0) == 2 * layer + 2 * 100 * 1000
    assert flops_per_token(SHAPE, 10) - flops_per_token(SHAPE, 0) == 2 * (2 * 2 * 100 * 10)


def test_operations_are_those_that_torch_counts_in_a_forward_pass(tiny_model):
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    shape, tokens = shape_of(str(tiny_model)), 24
    model = AutoModelForCausalLM.from_pretrained(tiny_model, attn_implementation="eager")
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(input_ids=torch.ones(1, tokens, dtype=torch.int64))
    # The eager attention multiplies with masked tokens too: each token with all of them.
    assert counted.get_total_flops() == pytest.approx(tokens * flops_per_token(shape, tokens), rel=0.01)


def test_twice_the_gpus_take_half_the_time_and_the_slower_side_is_waited_for():
    def estimate(*settings):
        found = speeds(compose(["skywork-or1-7b"], ["stages=[]", *settings]), BASES[SEVEN], Gpu())
        return found[0]

    one, two = estimate("rollout.workers=4"), estimate("rollout.workers=8")
    assert two.rollout_s == pytest.approx(one.rollout_s / 2)
    assert one.step_s == one.train_s + one.rollout_s, "on-policy nothing overlaps"
    beside = estimate("rollout.workers=4", "flow.max_staleness=1")
    assert beside.step_s == max(beside.train_s, beside.rollout_s)
    assert beside.waiting.startswith("the learner waits" if beside.rollout_s > beside.train_s else "rollout waits")


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_of_the_32b_preset_by_hand():
    page = describe(compose(["skywork-or1-32b"], []), BASES[THIRTY_TWO])
    for line in (
        "160 x 32 = 5,120",  # responses of stage 2
        "760 to 1,130",
        "125.8 M",  # 5,120 x 24,576 tokens
        "11.3 GB              21.2 GB",  # 21 steps of 256 x 16 x 16,384 and of 160 x 32 x 24,576 tokens, 8 bytes each
        "4.1 GB        -  2 bytes a parameter / 16 ranks",
        "-  17.4 GB  64 layers",  # 64 x 26,624 x 5,120 x 2
        "31  the worker asks for up to 64",  # (4 x 72 - 65.5) / 7.0
    ):
        assert line in page, line
    assert all(line.startswith("#") for line in page.splitlines())
    assert max(map(len, page.splitlines())) <= 120


def test_a_worker_without_room_for_its_responses_is_shown_a_wider_one():
    page = describe(compose(["skywork-or1-32b"], ["rollout.tensor_parallel=1"]), BASES[THIRTY_TWO])
    assert "0  the worker asks for up to 64; rollout.tensor_parallel = 2 fits 11" in page  # (2 x 72 - 65.5) / 7.0
    assert max(map(len, page.splitlines())) <= 120


def test_further_tables_stand_on_the_page():
    page = describe(compose(["tiny"], []), SHAPE, more=["layout\nGPU 0  learner"])
    assert page.endswith("\n#\n# layout\n# GPU 0  learner")


def test_the_longest_row_is_the_longest_that_fits():
    config, gpu = compose(["skywork-or1-7b"], []), Gpu()
    longest = longest_row(learner_of(config, Gpu()), BASES[SEVEN], gpu)

    def needs(tokens):
        return peak(
            learner_of(compose(["skywork-or1-7b"], [f"train.micro_batch_tokens={tokens}"]), Gpu()), BASES[SEVEN]
        ).device

    assert needs(longest) <= gpu.bytes < needs(longest + 1024)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ("ranks=8", "zero_stage=2", "offload=none"),
            r"147 GB of a GPU that has 80.0 GB; it would fit with train.offload",
        ),
        (
            ("ranks=4", "gradient_checkpointing=false", "offload_activations=false"),
            r"no key alone is enough: it would fit with .*offload",
        ),
    ],
)
def test_what_a_gpu_cannot_hold_is_refused_with_the_keys_that_would_make_it_fit(settings, said):
    import re

    config = compose(["skywork-or1-32b"], [f"train.{setting}" for setting in settings])
    assert re.search(said, why_not(config, BASES[THIRTY_TWO], Gpu()))
    assert why_not(compose(["skywork-or1-32b"], []), BASES[THIRTY_TWO], Gpu()) is None


def test_a_worker_that_holds_no_longest_sequence_is_refused_with_the_gpus_that_it_would_need():
    config = compose(["skywork-or1-7b"], [])
    assert "they would with rollout.tensor_parallel = 2" in why_not(config, BASES[SEVEN], Gpu(bytes=16e9))


def test_a_dry_run_and_a_plan_print_the_same_page_and_refuse_the_same():
    def said(words, code=0):
        done = CliRunner().invoke(app, words.split())
        if isinstance(done.exception, Exception) and not isinstance(done.exception, SystemExit):
            return str(done.exception)
        assert done.exit_code == code, done.output
        return done.output

    preset = "--preset skywork-or1-7b --set rollout.workers=8"
    page = describe(compose(["skywork-or1-7b"], ["rollout.workers=8"]), BASES[SEVEN])
    assert page in said(f"up {preset} --dry-run")
    assert said(f"plan {preset} --steps 3").startswith(page)
    refused = said(f"up {preset} --dry-run --gpu-gb 40")
    assert refused == said(f"plan {preset} --gpu-gb 40")
    assert refused.startswith("it does not fit: a learner rank needs")


def test_the_chunk_that_the_desk_may_not_import_is_the_token_op_s():
    from leeway_rl.learner.objective import token_op

    assert (rank.LOGITS_CHUNK, rank.SUMMED_ROWS) == (token_op.CHUNK_ELEMENTS, token_op.SUMMED_ROWS)
