"""vLLM takes the lengths that the learner trains."""

import json

import pytest

pytest.importorskip("vllm")

from functools import partial

from leeway_rl.rollout.vllm_context import overridden, with_its_context
from transformers import Qwen2Config, Qwen2ForCausalLM

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


@pytest.mark.parametrize(
    ("kind", "stated", "longest"),
    [("yarn", 64, 256), ("yarn without", 64, 256), ("yarn", 256, 256), ("linear", 64, 256), ("none", 64, 64)],
)
def test_vllm_takes_the_longer_context_and_no_more(tmp_path, monkeypatch, kind, stated, longest):
    from vllm.engine.arg_utils import EngineArgs

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=8, num_key_value_heads=1, **sizes)).save_pretrained(tmp_path)
    keys = json.loads((tmp_path / "config.json").read_text()) | {"max_position_embeddings": stated}
    rope = {"rope_type": kind.split()[0], "rope_theta": 1e4, "factor": 4.0}
    rope |= {"original_max_position_embeddings": 64} if kind == "yarn" else {}
    keys["rope_parameters"] = rope if kind != "none" else {"rope_type": "default", "rope_theta": 1e4}
    (tmp_path / "config.json").write_text(json.dumps(keys))

    def told(tokens):
        made = EngineArgs(
            model=str(tmp_path), max_model_len=tokens, hf_overrides=with_its_context, skip_tokenizer_init=True
        )
        return made.create_model_config()

    config = told(longest)
    assert config.max_model_len == longest
    if kind.startswith("yarn"):  # what its positions are made of is as before
        made_of = config.hf_text_config.rope_parameters
        assert (made_of["original_max_position_embeddings"], made_of["factor"]) == (64, 4.0)
    with pytest.raises(ValueError, match="max_model_len"):
        told(longest + 1)


@pytest.mark.parametrize(("asked", "found"), [("float32", "float32"), ("model", "bfloat16")])
def test_vllms_output_projection_computes_in_the_dtype_that_it_is_told(tmp_path, asked, found):
    """The layer itself is made and called, as every model of vLLM's makes it."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.layers.logits_processor import LogitsProcessor
    from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=8, num_key_value_heads=1, **sizes)).save_pretrained(tmp_path)
    overrides = partial(overridden, head_dtype=asked)
    made = EngineArgs(model=str(tmp_path), dtype="bfloat16", hf_overrides=overrides, skip_tokenizer_init=True)
    with set_current_vllm_config(VllmConfig(model_config=made.create_model_config())):
        layer = LogitsProcessor(8)
    torch.manual_seed(0)
    hidden, weight = torch.randn(3, 32).bfloat16(), torch.randn(8, 32).bfloat16()

    class Head(torch.nn.Module):
        tp_size, quant_method = 1, UnquantizedEmbeddingMethod()
        cpu_linear = staticmethod(torch.nn.functional.linear)  # vLLM sets its own once weights are loaded

    head = Head()
    head.weight = torch.nn.Parameter(weight, requires_grad=False)
    logits = layer(head, hidden)
    assert logits.dtype == getattr(torch, found)
    exact = hidden.float() @ weight.float().t()
    rounded = (logits.float() - exact).abs().max() > 1e-4
    assert rounded == (found == "bfloat16")
