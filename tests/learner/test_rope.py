"""A rotary embedding that changes with what shares a pass is refused where that could happen, and trains where not."""

import json

import numpy as np
import pytest
import torch
from leeway_rl.common.errors import DataError
from leeway_rl.common.rope import why_not_packed
from leeway_rl.learner.model import load_module
from leeway_rl.learner.packing import micro_batches
from tiny_policy import make_config, make_groups, make_model

FACTORS = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 24, **FACTORS}


def long_rope(folder, original):
    path = make_model(folder)
    keys = json.loads((folder / "config.json").read_text())
    width = keys.get("head_dim") or keys["hidden_size"] // keys["num_attention_heads"]
    factors = {"short_factor": [1.0] * (width // 2), "long_factor": [4.0] * (width // 2)}
    keys["rope_parameters"] = {**LONGROPE, **factors, "original_max_position_embeddings": original}
    (folder / "config.json").write_text(json.dumps(keys))
    return path


@pytest.mark.parametrize(
    ("keys", "refused"),
    [
        ({"rope_parameters": LONGROPE}, True),
        ({"rope_scaling": {"type": "su", **FACTORS}, "original_max_position_embeddings": 24}, True),
        ({"rope_scaling": {"type": "longrope", **FACTORS}, "original_max_position_embeddings": 4096}, False),
        ({"rope_parameters": {"full_attention": LONGROPE, "sliding_attention": {"rope_type": "default"}}}, True),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}}, False),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, False),
        ({}, False),
    ],
)
def test_only_a_rope_that_switches_within_the_run_s_lengths_is_refused(keys, refused):
    assert (why_not_packed(keys, 96) is not None) == refused


def test_a_model_of_it_is_refused_at_load_by_its_keys(tmp_path):
    config = make_config(long_rope(tmp_path, 24))
    with pytest.raises(DataError, match=r"longrope changes for every token of a pass once one is past position 24"):
        load_module(config)


@pytest.mark.parametrize("response", [116, 240, 241])
def test_a_model_lengthened_by_yarn_trains_up_to_its_longer_context(tmp_path, response):
    path = make_model(tmp_path, max_position_embeddings=64)
    keys = json.loads((tmp_path / "config.json").read_text())
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
    (tmp_path / "config.json").write_text(json.dumps(keys | {"rope_parameters": yarn}))
    config = make_config(path, train__max_response_tokens=response, train__micro_batch_tokens=512)
    if response <= 240:
        load_module(config)
        return
    with pytest.raises(DataError, match=r"= 257 is more than .* 64 x factor 4 of its yarn rope = 256"):
        load_module(config)


def test_below_its_switch_it_gives_each_response_what_it_gives_it_alone(tmp_path):
    config = make_config(long_rope(tmp_path, 1 << 12))
    module, groups = load_module(config), make_groups(2)
    advantages = [np.arange(len(group.rewards_S)) + 1.0 for group in groups]
    (packed,) = micro_batches(groups, advantages, version=0, token_budget=4096)
    with torch.no_grad():
        together = module(packed).logprobs_T
        alone = [
            module(batch).logprobs_T
            for group, advantage in zip(groups, advantages, strict=True)
            for batch in micro_batches([group], [advantage], version=0, token_budget=4096)
        ]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=0)
