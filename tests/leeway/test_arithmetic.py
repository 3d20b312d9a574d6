"""The arithmetic of --dry-run against numbers worked by hand, and its activations against what torch keeps."""

import subprocess
import sys
from pathlib import Path

import pytest
from leeway_rl.common.config import compose
from leeway_rl.common.rope import Context
from leeway_rl.leeway.planning import arithmetic
from leeway_rl.leeway.planning.arithmetic import (
    BASES,
    Shape,
    describe,
    kv_bytes_a_token,
    layer_bytes,
    learner_memory,
    shape_of,
)

SEVEN = "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"
THIRTY_TWO = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B"


@pytest.mark.parametrize("name", BASES)
def test_the_parameters_of_the_known_bases_follow_from_their_sizes(name):
    """Qwen2: biases on query, key and value; two norms a layer and a last one; embedding and head not tied."""
    shape = BASES[name]
    wide, narrow = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * shape.hidden * wide + wide + 2 * (shape.hidden * narrow + narrow)
    layer = attention + 3 * shape.hidden * shape.intermediate + 2 * shape.hidden
    total = 2 * shape.vocabulary * shape.hidden + shape.layers * layer + shape.hidden
    assert total == shape.parameters


def test_a_local_model_is_read_from_its_folder(tiny_model):
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = shape_of(str(tiny_model))
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    config = AutoConfig.from_pretrained(tiny_model)
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (shape.layers, shape.hidden, shape.vocabulary) == (2, 128, 20)
    assert shape.head_dim == config.hidden_size // config.num_attention_heads
    assert shape_of("{presets}/tiny/model") == shape


def test_a_model_of_unknown_shape_is_called_unknown(tmp_path):
    (tmp_path / "config.json").write_text('{"n_layer": 12}')
    assert shape_of(str(tmp_path)) is None
    assert shape_of("somebody/something") is None
    page = describe(compose(["tiny"], ["model.path=somebody/something"]), None)
    assert "memory: unknown. somebody/something is no local folder" in page
    assert "(1 + 1) x 16 = 32" in page


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
    parts = [part for part in learner_memory(config, SHAPE) if "a parameter" in part.how and "casts" not in part.name]
    return (sum(part.device for part in parts) / 1e6, sum(part.host for part in parts) / 1e6)


@pytest.mark.parametrize(
    ("settings", "device", "host"),
    [
        (("zero_stage=0", "ranks=4"), 4 + 4 + 8, 0),
        (("zero_stage=1", "ranks=4"), 4 + 4 + 12 / 4, 0),
        (("zero_stage=2", "ranks=4"), 4 + 4 / 4 + 12 / 4, 0),
        (("zero_stage=3", "ranks=4"), 20 / 4, 0),
        (("zero_stage=2", "ranks=4", "offload=optimizer"), 4, (4 + 12) / 4 + 4),
        (("zero_stage=3", "ranks=4", "offload=optimizer"), 4 / 4, (4 + 12 + 4) / 4),
        (("zero_stage=3", "ranks=4", "offload=optimizer+parameters"), 0, (4 + 4 + 12 + 4) / 4),
    ],
)
def test_states_are_spread_and_offloaded_by_zero_stage(settings, device, host):
    assert state_bytes(*settings) == pytest.approx((device, host))


def test_activations_of_a_7b_layer_by_hand():
    assert layer_bytes(BASES[SEVEN], half=True) == 26 * 3584 + 6 * 3584 + 4 * 512 + 8 * 18944 + 4 * 28 + 8 == 268_408
    assert layer_bytes(BASES[SEVEN], half=False) == 36 * 3584 + 8 * 512 + 16 * 18944 + 120


@pytest.mark.parametrize("half", [True, False])
def test_activations_are_what_torch_keeps_for_the_backward_pass(half):
    """Of the four layers more that the larger model has; weights and their casts not counted."""
    # In a process of its own: DeepSpeed's ZeRO 3, once used, keeps its own linear function in torch.
    code = f"from tests.leeway.test_arithmetic import kept_bytes as k; print(k(6, half={half}) - k(2, half={half}))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    kept = int(done.stdout)
    casts = 4 * 2 * (2 * 64 * 128 + 2 * 64 * 32 + 3 * 64 * 256) if half else 0
    sizes = {"hidden": 64, "intermediate": 256, "heads": 8, "kv_heads": 2, "head_dim": 16, "vocabulary": 50}
    shape = Shape(layers=6, parameters=1, context=Context(64, ""), **sizes)
    assert kept - casts == 4 * layer_bytes(shape, half=half) * 60


def kept_bytes(layers, *, half):
    import torch
    from leeway_rl.learner import attention
    from transformers import AutoModelForCausalLM, Qwen2Config

    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": layers}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16}
    config = Qwen2Config(**sizes, **heads)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.register())
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
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=half),
    ):
        tokens = torch.ones_like(positions)
        model.model(input_ids=tokens, position_ids=positions, use_cache=False, layout=((20, 40),))
    return sum(size for size, _ in kept.values())


def test_a_token_of_a_7b_takes_56_kib_of_cache():
    config = compose(["tiny"], ["rollout.engine=vllm", "rollout.dtype=bfloat16"])
    assert kv_bytes_a_token(config, BASES[SEVEN]) == 2 * 28 * 4 * 128 * 2 == 56 * 1024


def test_the_page_of_the_32b_preset_by_hand():
    page = describe(compose(["skywork-or1-32b"], []), BASES[THIRTY_TWO])
    for line in (
        "160 x 32 = 5,120",  # responses of stage 2
        "760 to 1,130",
        "125.8 M",  # 5,120 x 24,576 tokens
        "1.0 GB",  # 160 x (32 x 24,576 x 8 + 2,048 x 4) bytes in Redis
        "8.2 GB        -  4 bytes a parameter / 16 ranks",
        "34.9 GB        -  the inputs of 64 layers",  # 64 x 26,624 x 5,120 x 4
        "31  4 x 80 GB x 0.9;",  # (4 x 72 - 65.5) / 7.0
        "1.0 TB",  # 8 x 131 GB
    ):
        assert line in page, line
    assert all(line.startswith("#") for line in page.splitlines())


def test_what_a_gpu_cannot_hold_is_said():
    config = compose(["skywork-or1-32b"], ["train.ranks=8", "train.zero_stage=2", "train.offload=none"])
    assert "more than a GPU of 80 GB has" in describe(config, BASES[THIRTY_TWO])


def test_the_chunk_that_the_desk_may_not_import_is_the_token_op_s():
    from leeway_rl.learner.objective import token_op

    assert arithmetic.LOGITS_CHUNK == token_op.CHUNK_ELEMENTS
