"""The gradient of a batch does not depend on how the batch is cut: in micro-batches, over ranks, packed or padded.

The model has weights of transformers' own initial size. With weights 15 times as large, as other tests have them,
float32 is 2e-6 away from float64 however the batch is cut.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gradients_on_ranks import OBJECTIVES, batch_of, gradient, still_config, with_budget
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.objective.loss import denominator
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, train_step
from tiny_policy import make_model
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
SHAPES = st.fixed_dictionaries(
    {
        "count": st.integers(1, 5),
        "size": st.integers(2, 6),
        "seed": st.integers(0, 10_000),
        "version": st.integers(0, 3),
        "objective": st.sampled_from(sorted(OBJECTIVES)),
        "turns": st.booleans(),
    }
)
LOOK = settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("small_weights"), initializer_range=0.02)


@pytest.fixture(scope="module")
def policy(model_path):
    return Policy(still_config(model_path))


@pytest.fixture(scope="module")
def policy_with_reference(model_path):
    return Policy(still_config(model_path, metrics__kl_every=1))


@pytest.fixture(scope="module")
def two_ranks(model_path, tmp_path_factory):
    """``two_ranks(shape)``: the gradient by two real gloo ranks, which live as long as this module's tests."""
    folder = tmp_path_factory.mktemp("gradients")
    script, environment = str(HERE / "gradients_on_ranks.py"), os.environ | {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(rank), str(folder / "meet"), model_path],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]

    def ask(shape):
        line = json.dumps(shape | {"out": str(folder / "gradient.pt")}) + "\n"
        ranks[0].stdin.write(line)
        ranks[0].stdin.flush()
        said = ranks[0].stdout.readline()
        while said and said != line:  # libraries speak up too
            said = ranks[0].stdout.readline()
        assert said == line, "the ranks are gone"
        return torch.load(folder / "gradient.pt")

    yield ask
    for rank in ranks:
        rank.communicate(timeout=200)


def _apart(one, other):
    return float((one - other).norm() / other.norm())


def _budgets(groups):
    """From the smallest that takes the longest response to one that takes all."""
    tokens = [len(group.ticket.prompt_tokens_P) + group.responses.lengths_S.astype(int) - 1 for group in groups]
    return max(each.max() for each in tokens), sum(each.sum() for each in tokens)


def _budget_for(groups, parts, config):
    """The micro-batch budget that cuts ``groups`` into as near as can be to ``parts``."""
    smallest, whole = _budgets(groups)
    return min(
        range(smallest, whole + 1, 1 + (whole - smallest) // 40),
        key=lambda budget: abs(len(cut(groups, version=3, config=with_budget(config, budget))) - parts),
    )


@LOOK
@given(shape=SHAPES)
def test_one_micro_batch_or_seven(policy, shape):
    groups = batch_of(shape)
    config = still_config("none", **OBJECTIVES[shape["objective"]])
    whole, passes = gradient(policy, groups, shape["version"], with_budget(config, _budgets(groups)[1]))
    assert passes == 1
    for parts in (7, 1000):  # the second: a response each
        budget = _budget_for(groups, parts, config)
        found, passes = gradient(policy, groups, shape["version"], with_budget(config, budget))
        assume(passes > 1)  # a response of one token after a long one adds nothing to a micro-batch
        assert _apart(found, whole) <= 1e-6


def _measured(policy, groups, version, config):
    found = train_step(policy, groups, version=version, controller=ControllerState(), config=config).metrics
    return {name: value for name, value in found.items() if name.startswith(("entropy/", "logprob/", "policy/", "kl/"))}


@LOOK
@given(shape=SHAPES)
def test_what_a_step_measures_does_not_depend_on_the_cut(policy_with_reference, shape):
    groups, config = batch_of(shape), still_config(policy_with_reference.config.model.path, metrics__kl_every=1)
    config = config.model_copy(update={"train": config.train.model_copy(update={"reuse": 2})})
    whole, single = (
        _measured(policy_with_reference, groups, 3, with_budget(config, budget)) for budget in _budgets(groups)[::-1]
    )
    assert {"logprob/sequence_ratio_std", "policy/sequence_ratio_max/lag_1", "kl/reference"} <= set(whole)
    assert single == pytest.approx(whole, rel=1e-5, abs=1e-6)


@LOOK
@given(shape=SHAPES, budget=st.sampled_from([24, 60, 4096]))
def test_one_rank_or_two(policy, two_ranks, shape, budget):
    groups = batch_of(shape)
    config = still_config("none", **OBJECTIVES[shape["objective"]])
    whole, _ = gradient(policy, groups, shape["version"], with_budget(config, 4096))
    assert _apart(two_ranks(shape | {"budget": budget}), whole) <= 1e-6


@LOOK
@given(shape=SHAPES, loss=st.sampled_from(["magic", "grpo", "pg"]))
def test_packed_or_padded(policy, model_path, shape, loss):
    groups = batch_of(shape | {"turns": False})  # what is padded here has targets alone
    config = still_config("none", **OBJECTIVES[loss])
    packed, _ = gradient(policy, groups, shape["version"], with_budget(config, 4096))
    assert _apart(_padded_gradient(policy, model_path, groups, config), packed) <= 1e-6


def _padded_gradient(policy, model_path, groups, config):
    """By transformers alone: a response a row, padded to the longest, attention mask, whole logits."""
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="sdpa")
    (batch,) = cut(groups, version=3, config=with_budget(config, 4096))
    rows, at = [], 0
    prompts = [torch.from_numpy(g.ticket.prompt_tokens_P.astype(int)) for g in groups for _ in g.responses.lengths_S]
    lengths = [int(length) for group in groups for length in group.responses.lengths_S]
    width = max(len(prompt) + length for prompt, length in zip(prompts, lengths, strict=True))
    mask_RL, targets = torch.zeros(len(lengths), width, dtype=torch.int64), []
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        tokens = torch.cat([prompt, batch.taken_T[at : at + length]])
        mask_RL[row, : len(tokens)] = 1
        rows.append(torch.nn.functional.pad(tokens, (0, width - len(tokens))))
        targets += range(row * width + len(prompt) - 1, row * width + len(tokens) - 1)
        at += length
    logits_TV = model(input_ids=torch.stack(rows), attention_mask=mask_RL).logits.flatten(0, 1)[targets]
    log_softmax_TV = logits_TV.log_softmax(-1)
    entropy_T = -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
    ratio_T = (log_softmax_TV.gather(-1, batch.taken_T[:, None])[:, 0] - batch.behaviour_logprobs_T).exp()
    gain_T, a_T = ratio_T * batch.advantages_T, batch.advantages_T
    if config.objective.loss != "pg":
        gain_T = torch.minimum(gain_T, ratio_T.clamp(0.8, 1.2) * a_T)
    loss_T = -(gain_T + config.entropy.alpha * entropy_T)
    loss_T = loss_T / batch.lengths_T if config.objective.loss == "grpo" else loss_T
    (loss_T.sum() / denominator(config.objective, at, len(lengths), config.train.max_response_tokens)).backward()
    theirs = dict(model.named_parameters())
    return torch.cat([theirs[name].grad.flatten() for name in policy.module.named_weights()])
