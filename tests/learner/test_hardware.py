"""What a training step says of its devices: operations against torch's own counter, MFU by hand, memory over ranks."""

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from leeway_rl.common.config import Config
from leeway_rl.common.flops import layer_flops, training_flops
from leeway_rl.learner import memory
from leeway_rl.learner.hardware import Hardware, peak_tflops, rows_of, sizes_in
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, surrogate_sum, train_step
from tiny_policy import make_config, make_groups, make_model
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.samples import a_heartbeat


def one_response_each(lengths, prompt=20):
    """Groups of a prompt and one response of these lengths."""
    groups = []
    for group, length in zip(make_groups(len(lengths), size=2), lengths, strict=True):
        random = np.random.default_rng(length)
        ticket = replace(group.ticket, prompt_tokens_P=random.integers(0, 61, prompt).astype(np.uint16))
        responses = replace(
            group.responses,
            tokens_T=random.integers(0, 61, length + 1).astype(np.uint16),
            logprobs_T=np.full(length + 1, -4.0, np.float32),
            lengths_S=np.array([length, 1], np.uint32),
            finished_S=np.ones(2, np.uint8),
            spans=np.array([[0, 0, 0, length], [1, 0, 0, 1]], np.uint32),
        )
        groups.append(replace(group, ticket=ticket, responses=responses, micro_batch_S=(0, -1)))
    return groups


def test_the_operations_are_those_that_torch_counts(tmp_path):
    """A real Qwen2, forward and backward, within 1 %. Torch's counter takes the whole square of a sequence, and not the
    half that causality leaves."""
    wide = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 24, "max_position_embeddings": 512}
    config = make_config(make_model(tmp_path / "model", **wide), train__micro_batch_tokens=4096)
    module, lengths = load_module(config), (300, 180, 64)
    groups = one_response_each(lengths)
    (batch,) = cut(groups, version=0, config=config)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        surrogate_sum(module, batch, config.objective, 0.0).loss_sum.backward()
    sizes = sizes_in(module, 512)
    rows = [(20, length - 1) for length in lengths]
    ours = training_flops(sizes, rows, sum(lengths))
    other_half = 3 * 4 * sizes.layers * sizes.heads * sizes.head_dim * sum(sum(row) ** 2 for row in rows) / 2
    assert other_half > 0.1 * ours  # so that attention is tested
    assert counter.get_total_flops() == pytest.approx(ours + other_half, rel=0.01)


def test_a_model_of_another_kind_has_no_known_operations(tmp_path, model_path):
    module = load_module(make_config(model_path))
    assert sizes_in(module, 128) is not None
    module.language_model.model.layers[0].mlp.expert = nn.Linear(32, 48)
    assert sizes_in(module, 128) is None
    assert sizes_in(load_module(make_config(make_model(tmp_path / "gpt2", "gpt2"))), 128) is None


def test_a_window_that_cuts_sequences_off_has_no_known_operations(tmp_path):
    window = {"use_sliding_window": True, "sliding_window": 32, "max_window_layers": 0}
    module = load_module(make_config(make_model(tmp_path / "window", **window)))
    assert sizes_in(module, 32) is not None
    assert sizes_in(module, 33) is None


def test_the_peak_is_the_cards_in_bfloat16_alone_and_the_key_goes_first():
    half = make_config("none", model__dtype="bfloat16")
    assert peak_tflops(half, "NVIDIA H100 80GB HBM3") == 989.0
    assert peak_tflops(half, "NVIDIA H100 80GB HBM3 MIG 3g.40gb") is None
    assert peak_tflops(half, None) is None
    assert peak_tflops(make_config("none"), "NVIDIA H100 80GB HBM3") is None
    assert peak_tflops(make_config("none", metrics__peak_tflops=60.0), "NVIDIA H100 80GB HBM3") == 60.0


def test_rows_are_what_is_computed():
    groups = make_groups(3, version=4, seed=4)
    lengths = [group.responses.lengths_S.astype(int) - 1 for group in groups]
    prompts = [len(group.ticket.prompt_tokens_P) for group in groups]
    assert rows_of(groups, 4, None) == [(p, *own) for p, own in zip(prompts, lengths, strict=True)]
    (batch,) = cut(groups, version=4, config=make_config("none", train__micro_batch_tokens=4096))
    assert rows_of(groups, 4, None) == list(batch.layout)
    masked = make_config("none", train__micro_batch_tokens=4096, flow__overflow="mask", flow__max_staleness=1)
    (batch,) = cut(groups, version=4, config=masked)
    assert rows_of(groups, 4, 1) == list(batch.layout) != rows_of(groups, 4, None)


def measured_by(config: Config, groups, ranks=1, **step):
    policy = SimpleNamespace(world=ranks, module=load_module(config))
    tokens = float(sum(group.responses.lengths_S.sum() for group in groups))
    of_step = {"batch/tokens": tokens, "policy/passes_before": 0.0}
    of_step |= {"memory/device_peak_bytes": 5e12, "memory/host_peak_bytes": 1.0} | step
    return Hardware(policy, config).measured(0, groups, of_step, {"time/train_s": 2.0}, oldest=None)


def test_mfu_is_what_the_model_needs_and_hfu_also_what_is_computed_again(model_path):
    groups = make_groups(2)
    changes = {"metrics__peak_tflops": 1e-3, "train__gradient_checkpointing": True, "train__reuse": 2}
    config = make_config(model_path, **changes)
    found = measured_by(config, groups, ranks=4, **{"policy/passes_before": 1.0})
    sizes, rows = sizes_in(load_module(config), 28), rows_of(groups, 0, None)
    tokens = int(sum(group.responses.lengths_S.sum() for group in groups))
    needed = training_flops(sizes, rows, tokens, passes=2, before=1)
    could = 2.0 * 4 * 1e9  # seconds, ranks, operations a second
    assert found["throughput/mfu"] == pytest.approx(needed / could)
    assert found["throughput/hfu"] == pytest.approx((needed + 2 * layer_flops(sizes, rows)) / could)
    assert found["throughput/learner_tflops_per_gpu"] == pytest.approx(needed / 8.0 / 1e12)


def test_without_a_known_peak_there_is_no_mfu(model_path):
    found = measured_by(make_config(model_path), make_groups(2))
    assert "throughput/mfu" not in found
    assert found["throughput/learner_tflops_per_gpu"] > 0


def test_the_largest_rank_counts_and_rank_0_once_more_at_the_end_of_the_step(model_path):
    found = measured_by(make_config(model_path), make_groups(2))
    assert found["memory/device_peak_bytes"] == 5e12  # another rank's
    assert found["memory/host_peak_bytes"] == found["memory/host_peak_bytes/rank_0"] > 1e7  # our own


def test_tokens_a_second_are_shared_out_over_the_devices(model_path):
    config = make_config(model_path, rollout__tensor_parallel=4, rollout__engine="vllm")
    hardware = Hardware(SimpleNamespace(world=8, module=load_module(config)), config)
    workers = [a_heartbeat("rollout", resident_bytes=size) for size in (7, 9)] + [a_heartbeat("verifier")]
    assert hardware.per_gpu(80.0, 240.0, workers) == {
        "throughput/learner_tokens_per_s_per_gpu": 10.0,
        "throughput/rollout_tokens_per_s_per_gpu": 30.0,
        "memory/rollout_bytes": 9,
    }
    assert "memory/rollout_bytes" not in hardware.per_gpu(80.0, 240.0, workers[2:])


def test_a_step_tells_its_passes_and_its_memory_and_measuring_takes_less_than_a_hundredth_of_it(model_path):
    config = make_config(model_path, train__minibatch_groups=2, metrics__peak_tflops=1.0)
    policy, groups = Policy(config), make_groups()
    hardware = Hardware(policy, config)
    steps, measuring = [], []
    for _ in range(5):
        started = time.process_time()
        memory.begin()
        found = train_step(policy, groups, version=0, controller=ControllerState(), config=config).metrics
        steps.append(time.process_time() - started)
        started = time.process_time()
        for _ in range(10):
            memory.begin()
            memory.peaks()
            hardware.measured(0, groups, found, {"time/train_s": 1.0}, oldest=None)
        measuring.append((time.process_time() - started) / 10)
    assert found["policy/passes_before"] == 1.0  # for log π_old, because there are two updates
    assert 1e7 < found["memory/host_peak_bytes"] <= 1e12
    assert found["memory/device_peak_bytes"] == found["memory/host_peak_bytes"] or torch.cuda.is_available()
    assert min(measuring) < 0.01 * min(steps), (min(measuring), min(steps))
