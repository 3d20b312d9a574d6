import dataclasses
import random

import numpy as np
import pytest
import torch
from leeway_rl.common.errors import DataError
from leeway_rl.learner.model import load_module
from leeway_rl.learner.packing import empty_micro_batch, micro_batches, staleness_of
from tiny_policy import make_config, make_groups, make_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM


def _advantages(groups):
    return [np.arange(len(group.rewards_S)) + 10.0 * group.ticket.ticket for group in groups]


def _by_response(batches, name):
    """The T numbers of all micro-batches, ordered by group and response."""
    found_T, order_T = (torch.cat([getattr(batch, each) for batch in batches]) for each in (name, "responses_T"))
    return found_T[order_T.argsort(stable=True)]


def test_every_response_token_is_predicted_once_with_its_own_numbers():
    groups = make_groups(version=5)
    batches = micro_batches(groups, _advantages(groups), version=5, token_budget=64)
    assert len(batches) > 1
    for name, per_group in {
        "taken_T": [group.responses.tokens_T.astype(np.int64) for group in groups],
        "behaviour_logprobs_T": [group.responses.logprobs_T for group in groups],
        "staleness_T": [staleness_of(group.responses, 5) for group in groups],
        "advantages_T": [
            np.repeat(a, g.responses.lengths_S).astype(np.float32)
            for g, a in zip(groups, _advantages(groups), strict=True)
        ],
        "responses_T": [np.repeat(4 * i + np.arange(4), g.responses.lengths_S) for i, g in enumerate(groups)],
    }.items():
        np.testing.assert_array_equal(_by_response(batches, name).numpy(), np.concatenate(per_group), err_msg=name)


def test_a_target_position_holds_the_token_before_the_one_taken():
    groups = make_groups(1)
    (batch,) = micro_batches(groups, _advantages(groups), version=0, token_budget=4096)
    at, prompt_P = 0, groups[0].ticket.prompt_tokens_P
    lengths = groups[0].responses.lengths_S.tolist()
    for length in lengths:
        targets = batch.targets_T[at : at + length]
        assert targets[0] == len(prompt_P) - 1
        assert torch.equal(batch.input_ids_L[targets[1:]], batch.taken_T[at : at + length - 1])
        assert batch.position_ids_L[targets].tolist() == list(range(len(prompt_P) - 1, len(prompt_P) - 1 + length))
        at += length
    assert batch.layout == ((len(prompt_P), *(length - 1 for length in lengths)),)
    assert len(batch.input_ids_L) == sum(batch.layout[0]), "the prompt stands once and nothing is padded"


def test_no_micro_batch_exceeds_the_budget_and_a_sequence_that_cannot_fit_is_refused():
    groups = make_groups(8)
    for budget in (24, 64, 300, 4096):
        for batch in micro_batches(groups, _advantages(groups), version=0, token_budget=budget):
            assert len(batch.input_ids_L) == sum(map(sum, batch.layout)) <= budget
    with pytest.raises(ValueError, match="exceed the micro-batch budget of 5"):
        micro_batches(groups, _advantages(groups), version=0, token_budget=5)


def test_the_order_of_arrival_does_not_change_the_micro_batches():
    groups = make_groups(6)
    shuffled = random.Random(0).sample(groups, len(groups))
    one = micro_batches(groups, _advantages(groups), version=0, token_budget=100)
    two = micro_batches(shuffled, _advantages(shuffled), version=0, token_budget=100)
    for left, right in zip(one, two, strict=True):
        for field in dataclasses.fields(left):
            ours, theirs = getattr(left, field.name), getattr(right, field.name)
            assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs, field.name


def test_a_span_from_the_future_is_a_defect():
    with pytest.raises(AssertionError, match="come from after version 0"):
        staleness_of(make_groups(1, version=5)[0].responses, 0)


def plain_model(path):
    """The transformers model as it comes, with its eager attention."""
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen2", {}),
        ("llama", {}),
        ("granite", {"logits_scaling": 8.0}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    ],
)
def test_responses_packed_together_get_the_log_probabilities_they_get_alone(tmp_path, kind, changes):
    path = make_model(tmp_path / "model", kind, **changes)
    module, groups = load_module(make_config(path)), make_groups(12)
    packed = micro_batches(groups, _advantages(groups), version=0, token_budget=600)
    assert max(len(batch.layout) for batch in packed) > 1
    with torch.no_grad():
        together_T = torch.cat([module(batch).logprobs_T for batch in packed])
        alone_T = torch.cat([_alone(plain_model(path), group) for group in groups])
    torch.testing.assert_close(together_T, alone_T, rtol=1e-5, atol=2e-6)


def _alone(model, group):
    """A sequence at a time, whole logits."""
    prompt_P = torch.from_numpy(group.ticket.prompt_tokens_P.astype(np.int64))
    tokens_T = torch.from_numpy(group.responses.tokens_T.astype(np.int64))
    parts = []
    for response_T in tokens_T.split(group.responses.lengths_S.tolist()):
        logits_LV = model(input_ids=torch.cat([prompt_P, response_T])[None]).logits[0]
        log_softmax_TV = torch.log_softmax(logits_LV, -1)[len(prompt_P) - 1 : -1]
        parts.append(log_softmax_TV.gather(-1, response_T[:, None]).squeeze(-1))
    return torch.cat(parts)


def test_another_sequence_in_the_row_cannot_change_a_bit(tmp_path):
    module = load_module(make_config(make_model(tmp_path / "model")))
    groups = make_groups(2)
    (batch,) = micro_batches(groups, _advantages(groups), version=0, token_budget=4096)
    first = int(batch.responses_T.eq(0).sum())
    other = batch.input_ids_L.clone()
    other[int(batch.targets_T[first - 1]) + 1 :] += 1
    with torch.no_grad():
        before_T = module(batch).logprobs_T[:first]
        after_T = module(dataclasses.replace(batch, input_ids_L=other % 61)).logprobs_T[:first]
    assert torch.equal(before_T, after_T)


def test_an_empty_micro_batch_gives_every_parameter_a_gradient_of_exactly_zero(tmp_path):
    module = load_module(make_config(make_model(tmp_path / "model")))
    module(empty_micro_batch(), lambda logprobs, entropy, at: -logprobs).loss_sum.backward()
    assert all((parameter.grad == 0).all() for parameter in module.parameters())


class _Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes while this is in force."""

    elements = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        sizes = [it.numel() for it in (made if isinstance(made, tuple) else (made,)) if isinstance(it, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return made


def test_a_long_response_costs_no_memory_of_its_length_squared(tmp_path):
    length = 2000
    module = load_module(make_config(make_model(tmp_path / "model", max_position_embeddings=length + 16)))
    (group,) = make_groups(1, size=2)
    long = dataclasses.replace(
        group.responses,
        tokens_T=np.arange(length + 3, dtype=np.uint16) % 61,
        logprobs_T=np.full(length + 3, -4, dtype=np.float32),
        lengths_S=np.array([length, 3], dtype=np.uint32),
        spans=np.array([(0, 0, 0, length), (1, 0, 0, 3)], dtype=np.uint32),
    )
    groups = [dataclasses.replace(group, responses=long)]
    (batch,) = micro_batches(groups, _advantages(groups), version=0, token_budget=4096)
    with _Largest() as largest:
        module(batch, lambda logprobs, entropy, at: -logprobs).loss_sum.backward()
    assert length < largest.elements < length**2 / 10


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "layers that would mix packed responses"),
        ("gemma2", {"final_logit_softcapping": None}, "softcap in its attention"),
    ],
)
def test_a_model_that_packing_would_get_wrong_is_refused(tmp_path, kind, changes, message):
    path = make_model(tmp_path / "model", kind, **changes)
    with pytest.raises(DataError, match=message):
        load_module(make_config(path))(empty_micro_batch())
