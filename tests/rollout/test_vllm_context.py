"""vLLM takes the lengths that the learner trains."""

import json

import pytest

pytest.importorskip("vllm")

from leeway_rl.rollout.vllm_context import with_its_context
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
