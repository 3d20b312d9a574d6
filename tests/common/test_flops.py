"""Operations of a model, worked by hand."""

import pytest
from leeway_rl.common.flops import (
    PEAK_TFLOPS,
    Sizes,
    flops_per_token,
    layer_flops,
    layer_weights,
    sizes_of,
    training_flops,
)

SMALL = Sizes(layers=2, hidden=8, intermediate=12, heads=2, kv_heads=1, head_dim=4, vocabulary=10)
QWEN_7B = Sizes(layers=28, hidden=3584, intermediate=18_944, heads=28, kv_heads=4, head_dim=128, vocabulary=152_064)


def test_the_matrices_of_the_layers_are_those_of_the_model():
    # q and o 8 x 8, k and v 8 x 4, three of 8 x 12
    assert layer_weights(SMALL) == 2 * (2 * 64 + 2 * 32 + 3 * 96)
    # 7,615,616,512 parameters, without embedding, head, 2 x 28 + 1 norms and the biases of q, k and v
    others = 2 * 152_064 * 3584 + 57 * 3584 + 28 * (3584 + 2 * 512)
    assert layer_weights(QWEN_7B) == 7_615_616_512 - others


def test_a_token_costs_its_matrices_what_it_sees_and_its_logits():
    assert flops_per_token(SMALL, 0, head=False) == 2 * 960
    assert flops_per_token(SMALL, 5, head=False) == 2 * 960 + 2 * (2 * 5 * 8 + 2 * 5 * 8)
    assert flops_per_token(SMALL, 5) == flops_per_token(SMALL, 5, head=False) + 2 * 8 * 10


def test_attention_is_half_the_square_of_every_sequence_and_a_prompt_stands_once():
    square = 4 * 2 * 8 / 2  # of two layers with 8 elements a token, the causal half
    assert layer_flops(SMALL, [(6, 0)]) == 6 * 1920 + square * 6**2
    assert layer_flops(SMALL, [(2, 4)]) == 6 * 1920 + square * 6**2  # one sequence, however it is shared out
    shared = square * (6**2 + 6**2 - 2**2)
    assert layer_flops(SMALL, [(2, 4, 4)]) == 10 * 1920 + shared
    assert layer_flops(SMALL, [(2, 4, 4), (6, 0)]) == 16 * 1920 + shared + square * 6**2


def test_a_backward_pass_takes_twice_its_forward_pass():
    groups, head = [(2, 4, 4)], 2 * 8 * 10
    forward = layer_flops(SMALL, groups) + 10 * head
    assert training_flops(SMALL, groups, 10) == 3 * forward
    assert training_flops(SMALL, groups, 10, passes=2, before=1) == 7 * forward


def test_a_7b_model_takes_about_six_operations_a_parameter():
    """PaLM's rule of thumb: 6N, and attention beside it."""
    rows = [(0, 4096)]
    attention = 3 * 4 * 28 * 3584 * 4096**2 / 2
    matrices = 7_615_616_512 - 152_064 * 3584  # an embedding is looked up
    assert training_flops(QWEN_7B, rows, 4096) == pytest.approx(6 * matrices * 4096 + attention, rel=1e-3)


def test_sizes_are_read_from_a_config_and_missing_ones_are_not_guessed():
    keys = {
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 10,
    }
    assert sizes_of(keys) == SMALL
    assert sizes_of(keys | {"head_dim": 16}).head_dim == 16
    assert sizes_of({name: each for name, each in keys.items() if name != "num_key_value_heads"}) is None


def test_a_part_of_a_card_is_no_known_card():
    assert PEAK_TFLOPS["NVIDIA H100 80GB HBM3"] == 989.0
    assert "NVIDIA H100 80GB HBM3 MIG 3g.40gb" not in PEAK_TFLOPS
