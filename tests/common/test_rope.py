"""The context of a model is what transformers and vLLM can make of it, lengthened or not."""

import pytest
from leeway_rl.common.rope import context_of, why_too_long

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("keys", "tokens"),
    [
        ({"max_position_embeddings": 64, "rope_scaling": YARN}, 256),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "yarn", "factor": 4}}, 256),
        ({"max_position_embeddings": 80, "rope_parameters": YARN}, 256),  # Qwen3: 40960, 4 x 32768
        ({"max_position_embeddings": 256, "rope_parameters": YARN}, 256),  # gpt-oss, DeepSeek: stated already
        ({"max_position_embeddings": 512, "rope_parameters": YARN}, 512),
        ({"max_position_embeddings": 64, "rope_parameters": YARN | {"factor": None}}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 2.0}}, 128),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "dynamic", "factor": 2.0}}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": YARN | {"rope_type": "llama3"}}, 64),  # Llama 3.2: 8192 x 32
        ({"max_position_embeddings": 64, "rope_scaling": YARN | {"rope_type": "longrope"}}, 64),
        (
            {
                "max_position_embeddings": 64,
                "rope_scaling": {"type": "linear", "factor": 8},
                "model_type": "gemma3_text",
            },
            64,
        ),
        ({"max_position_embeddings": 64, "rope_parameters": {"full_attention": YARN, "sliding_attention": {}}}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": None}, 64),
    ],
)
def test_a_factor_counts_where_the_stated_context_is_the_one_before(keys, tokens):
    assert context_of(keys).tokens == tokens


def test_where_no_key_says_the_context_nothing_is_refused():
    assert context_of({"n_layer": 2}) is None
    assert why_too_long({"a": 1 << 40}, "m", None) is None


def test_what_is_too_long_is_told_with_its_sum_and_where_the_context_comes_from():
    said, context = {"data.max_prompt_tokens": 200, "train.max_response_tokens": 57}, {"max_position_embeddings": 64}
    lengthened = context_of(context | {"rope_scaling": YARN})
    assert why_too_long(said | {"data.max_prompt_tokens": 199}, "model m", lengthened) is None
    assert why_too_long(said, "model m", lengthened) == (
        "data.max_prompt_tokens 200 + train.max_response_tokens 57 = 257 is more than the context of model m: "
        "original_max_position_embeddings 64 x factor 4 of its yarn rope = 256; ask for fewer"
    )
