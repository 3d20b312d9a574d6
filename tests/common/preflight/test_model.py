"""What can be trained and sampled passes; what cannot is refused by name, before it loads. No weight is read."""

import math

import pytest
from leeway_rl.common.config import serving
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.preflight.architecture import logits_divisor
from leeway_rl.common.preflight.folder import WEIGHTS, read_folder
from leeway_rl.common.preflight.model import check_model, load_tokenizer_of
from leeway_rl.common.wording import byte_size
from safetensors.torch import load_file, save_file

from tests.model_folders import FAMILIES, asking, change, make_folder


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """A function that makes each family's folder once."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = make_folder(tmp_path_factory.mktemp(kind) / "model", kind)
        return made[kind]

    return make


@pytest.mark.parametrize("engine", ["torch", "vllm"])
@pytest.mark.parametrize("kind", [*FAMILIES, "qwen3_moe", "gpt2"])
def test_a_family_that_works_passes(folder_of, kind, engine):
    path = folder_of(kind)
    assert check_model(asking(path, f"rollout.engine={engine}"), "train", "sample").path == path
    tokenizer, vocabulary = load_tokenizer_of(str(path))
    assert (len(tokenizer), vocabulary) == (20, 20)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "gpt_oss",
            "gpt_oss cannot be trained here: it needs attention sinks. leeway sample and leeway eval may use it",
        ),
        ("mamba", "mamba cannot be trained here: it has layers that would mix packed responses"),
        ("lfm2", r"lfm2 cannot be trained here: it has layers that would mix packed responses \(conv\)"),
        ("gemma2", "gemma2 cannot be trained here: it needs softcap in its attention"),
        ("nemotron", "nemotron cannot be trained here: it has an attention that would mix packed responses"),
        ("stablelm", "stablelm cannot be trained here: it has an attention that would mix packed responses"),
    ],
)
def test_a_kind_that_cannot_be_trained_is_refused_by_name(folder_of, kind, message):
    for engine in ("torch", "vllm"):
        with pytest.raises(DataError, match=message):
            check_model(asking(folder_of(kind), f"rollout.engine={engine}"), "train", "sample")
    check_model(asking(folder_of("qwen2")), "train", "sample")


def test_what_vllm_gets_wrong_is_refused_there_alone(folder_of):
    with pytest.raises(DataError, match=r"vLLM 0.32 loses the bias .* \(phi\); rollout.engine = 'torch' is right"):
        check_model(asking(folder_of("phi"), "rollout.engine=vllm"), "sample")
    check_model(asking(folder_of("phi"), "rollout.engine=torch"), "train", "sample")


def test_a_window_that_vllm_takes_for_longer_is_refused_where_it_counts(tmp_path):
    folder = make_folder(tmp_path / "model", "cohere2", sliding_window=96)  # 32 tokens of a prompt, 64 of a response
    check_model(asking(folder, "rollout.engine=vllm"), "sample")
    change(folder / "config.json", sliding_window=95)
    with pytest.raises(DataError, match="sees a token more than transformers past the sliding window of 95"):
        check_model(asking(folder, "rollout.engine=vllm"), "sample")
    check_model(asking(folder, "rollout.engine=torch"), "train", "sample")


@pytest.mark.parametrize("key", ["logits_scaling", "final_logit_softcapping", "output_multiplier_scale"])
def test_logits_that_change_after_the_head_are_refused_where_the_learner_does_not_know_how(tmp_path, key):
    folder = make_folder(tmp_path / "model", "qwen2")
    change(folder / "config.json", **{key: 8.0})
    with pytest.raises(DataError, match=f"qwen2 cannot be trained here: it changes its logits by {key}"):
        check_model(asking(folder), "train")


def test_logits_that_are_scaled_are_no_matter_where_the_learner_scales_them(folder_of):
    check_model(asking(folder_of("granite")), "train", "sample")
    assert logits_divisor({"model_type": "granite", "logits_scaling": 8.0}) == 8.0
    assert logits_divisor({"model_type": "cohere2", "logit_scale": 0.25}) == 4.0
    assert logits_divisor({"model_type": "qwen2", "logit_scale": 0.25}) == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"torch_dtype": "float13"}, "torch_dtype in its config.json is 'float13': expected one of auto, bfloat16"),
        ({"rope_theta": float("nan")}, "rope_theta in its config.json is nan: expected a number above 0"),
        ({"rope_theta": "1e6"}, "rope_theta in its config.json is '1e6': expected a number above 0"),
        (
            {"architectures": ["BertForMaskedLM"]},
            r"its architectures \(BertForMaskedLM\) hold no causal language model",
        ),
    ],
)
def test_keys_that_no_causal_language_model_has_are_refused_by_name(tmp_path, changes, message):
    folder = make_folder(tmp_path / "model", "qwen2")
    change(folder / "config.json", **changes)
    with pytest.raises(DataError, match=message):
        check_model(asking(folder), "train", "sample")


@pytest.mark.parametrize(
    ("kind", "what"), [("gpt_oss", "needs attention sinks"), ("mamba", "has an attention of its own")]
)
def test_what_the_torch_engine_lacks_is_refused_there_alone(folder_of, kind, what):
    with pytest.raises(DataError, match=rf"{kind} {what}, which the torch engine does not have; .*'vllm' may"):
        check_model(asking(folder_of(kind), "rollout.engine=torch"), "load", "sample")
    check_model(asking(folder_of(kind), "rollout.engine=vllm"), "load", "sample")
    check_model(asking(folder_of("gemma2"), "rollout.engine=torch"), "load", "sample")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"is_encoder_decoder": True}, "qwen2 is an encoder with a decoder"),
        ({"vision_config": {}}, r"qwen2 cannot be trained here: it wraps a language model .*\(vision_config\)"),
        ({"quantization_config": {"quant_method": "gptq"}}, "it is quantised by gptq"),
        ({"quantization_config": {"quant_method": "fp8"}}, "it is quantised by fp8"),
        (
            {"model_type": "own_kind", "auto_map": {"AutoModelForCausalLM": "modeling.Own"}},
            r"own_kind brings its own code \(auto_map in config.json: trust_remote_code\), which is never run",
        ),
        ({"num_hidden_layers": 2}, r"num_hidden_layers = 2, and the weights have layers up to 2"),
        ({"num_hidden_layers": 4}, r"num_hidden_layers = 4, and the weights have no layer 3"),
        ({"vocab_size": 21}, r"(embed_tokens|lm_head).weight is \[20, 64\], and config.json makes it \[21, 64\]"),
        ({"num_key_value_heads": 2}, r"k_proj.weight is \[32, 64\], and config.json makes it \[64, 64\]"),
        ({"intermediate_size": 96}, r"(up|down)_proj.weight is .*intermediate_size"),
        ({"max_position_embeddings": 64}, "= 96 is more than the context of model"),
    ],
)
def test_a_config_that_cannot_work_names_its_key(tmp_path, keys, message):
    path = make_folder(tmp_path / "model")
    check_model(asking(path), "train", "sample")
    change(path / "config.json", **keys)
    with pytest.raises(DataError, match=message):
        check_model(asking(path), "train", "sample")


def test_code_of_its_own_is_no_matter_where_transformers_has_that_kind(tmp_path):
    path = make_folder(tmp_path / "model", "phi3")
    change(path / "config.json", auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"})
    check_model(asking(path), "train", "sample")


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "phi3"])
def test_weights_that_lack_a_tensor_are_refused(tmp_path, kind):
    path = make_folder(tmp_path / "model", kind)
    whole = load_file(path / WEIGHTS)
    due = [
        ("model.layers.1.mlp.down_proj.weight", "lack layers.1.mlp.down_proj.weight, which other layers have"),
        ("model.norm.weight", "the weights lack model.norm.weight"),
    ]
    tied = "lm_head.weight" not in whole
    assert tied == (kind == "gemma3_text")
    for name, message in (
        due if tied else [*due, ("lm_head.weight", "the weights lack lm_head.weight, and config.json")]
    ):
        save_file({key: tensor for key, tensor in whole.items() if key != name}, path / WEIGHTS, {"format": "pt"})
        with pytest.raises(DataError, match=message):
            check_model(asking(path), "train")
        check_model(asking(path), "sample")
    save_file(whole, path / WEIGHTS, {"format": "pt"})
    check_model(asking(path), "train")


def test_an_output_projection_may_be_the_embedding(tmp_path):
    path = make_folder(tmp_path / "model", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(path / WEIGHTS)
    check_model(asking(path), "train")
    change(path / "config.json", tie_word_embeddings=False)
    with pytest.raises(DataError, match=r"lack lm_head.weight, and config.json does not say tie_word_embeddings"):
        check_model(asking(path), "train")


def test_packed_integers_are_quantised_weights_whatever_the_config_says(tmp_path):
    import torch

    path = make_folder(tmp_path / "model")
    tensors = load_file(path / WEIGHTS)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({**tensors, name: tensors[name].to(torch.int8)}, path / WEIGHTS, {"format": "pt"})
    with pytest.raises(DataError, match=rf"{name} is I8: it is quantised"):
        check_model(asking(path), "train")
    mask = {"model.layers.0.self_attn.masked": torch.ones(4, dtype=torch.bool)}  # as old checkpoints carry along
    save_file(tensors | mask, path / WEIGHTS, {"format": "pt"})
    check_model(asking(path), "train")


def test_a_model_is_spread_over_as_many_gpus_as_divide_its_heads(tmp_path):
    path = make_folder(tmp_path / "model", num_attention_heads=12, num_key_value_heads=4, head_dim=64)
    for ranks, message in (
        (5, r"= 5 does not divide its 12 .*; 1, 2, 3, 4, 6, 12 do"),
        (6, r"4 heads of keys and values"),
    ):
        with pytest.raises(ConfigError, match=rf"rollout.tensor_parallel = {message}|{message}"):
            check_model(asking(path, "rollout.engine=vllm", f"rollout.tensor_parallel={ranks}"), "sample")
    for ranks in (1, 2, 4, 12):
        check_model(asking(path, "rollout.engine=vllm", f"rollout.tensor_parallel={ranks}"), "sample")


def test_what_leeway_writes_passes(tiny_model):
    check_model(asking(tiny_model), "train", "sample")


def test_a_version_that_redis_should_not_hold_is_refused_with_the_sum(folder_of, monkeypatch):
    path = folder_of("qwen2")
    parameters = sum(math.prod(header.shape) for header in read_folder(path, weights=True).tensors.values())
    monkeypatch.setattr(serving, "MOST_IN_REDIS", 2 * parameters)
    check_model(asking(path, "weights.transport=redis", "weights.dtype=bfloat16"), "train")
    monkeypatch.setattr(serving, "MOST_IN_REDIS", 2 * parameters - 1)
    sizes = byte_size(2 * parameters), byte_size(4 * parameters)
    with pytest.raises(ConfigError, match=rf"two whole ones .*: 2 x {sizes[0]} = {sizes[1]}.*transport = 'file'"):
        check_model(asking(path, "weights.transport=redis", "weights.dtype=bfloat16"), "train")
    check_model(asking(path, "weights.transport=file", "weights.folder=/tmp/w"), "train")
    check_model(asking(path, "weights.transport=redis", "weights.dtype=bfloat16"), "sample")
