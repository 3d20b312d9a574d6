import dataclasses
import math

import numpy as np
import pytest
import torch
from leeway_rl.common.errors import DataError
from leeway_rl.learner.clipping import clip_gradients
from leeway_rl.learner.engine_settings import adamw
from leeway_rl.learner.model import load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.objective.loss import denominator
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, size_of, split, surrogate_sum, train_step
from leeway_rl.leeway.planning.arithmetic.asked import asked_of
from tiny_policy import make_config, make_groups, make_model


def _train(config, steps=3, controller=None):
    policy, controller, results = Policy(config), controller or ControllerState(), []
    for step in range(steps):
        groups = make_groups(version=step, seed=step)
        results.append(train_step(policy, groups, version=step, controller=controller, config=config))
        controller = results[-1].controller
    return policy.named_weights(), results


def _plain_loop(config, alphas):
    """Three steps of torch and nothing else."""
    module = load_module(config)
    optimizer = adamw(module, config)
    for step, alpha in enumerate(alphas):
        batches = cut(make_groups(version=step, seed=step), version=step, config=config)
        tokens = sum(len(batch.taken_T) for batch in batches)
        for batch in batches:
            (surrogate_sum(module, batch, config.objective, alpha).loss_sum * (1 / tokens)).backward()
        clip_gradients(module, config.train.grad_clip)
        optimizer.step()
        optimizer.zero_grad()
    return module.named_weights()


@pytest.mark.parametrize("budget", [64, 4096])
@pytest.mark.parametrize("grad_clip", [0.1, 0.0])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_three_steps_are_bit_for_bit_those_of_a_plain_torch_loop(model_path, budget, grad_clip, dtype):
    config = make_config(
        model_path,
        model__dtype=dtype,
        train__micro_batch_tokens=budget,
        train__grad_clip=grad_clip,
        entropy__target=10.0,
        entropy__delta=0.01,
    )
    weights, results = _train(config)
    alphas = [result.metrics["entropy/alpha"] for result in results]
    assert alphas == [0.0, 0.01, 0.02]
    plain = _plain_loop(config, alphas)
    assert list(weights) == list(plain)
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    start = load_module(config).named_weights()
    assert not any(torch.equal(weights[name], start[name]) for name in plain)


def _gradient(config, alpha=0.01):
    module = load_module(config)
    batches = cut(make_groups(), version=0, config=config)
    for batch in batches:
        surrogate_sum(module, batch, config.objective, alpha).loss_sum.backward()
    return len(batches), torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


def test_the_gradient_does_not_depend_on_how_the_batch_is_cut(model_path):
    whole_count, whole = _gradient(make_config(model_path, train__micro_batch_tokens=4096))
    for budget in (28, 40, 70):
        count, gradient = _gradient(make_config(model_path, train__micro_batch_tokens=budget))
        assert count > whole_count == 1
        assert (gradient - whole).norm() / whole.norm() <= 1e-6


@torch.no_grad()
def _loss_over_whole_logits(config, alpha):
    module, total, tokens = load_module(config), 0.0, 0
    temperature = config.flow.temperature
    for batch in cut(make_groups(), version=0, config=config):
        hidden_TH = module.language_model.model(
            input_ids=batch.input_ids_L[None], position_ids=batch.position_ids_L[None], layout=batch.layout
        ).last_hidden_state[0][batch.targets_T]
        log_softmax_TV = torch.log_softmax(hidden_TH @ module.language_model.lm_head.weight.t() / temperature, -1)
        ratio_T = (log_softmax_TV.gather(-1, batch.taken_T[:, None])[:, 0] - batch.behaviour_logprobs_T).exp()
        entropy_T = -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
        a_T = batch.advantages_T
        total -= float((torch.minimum(ratio_T * a_T, ratio_T.clamp(0.8, 1.2) * a_T) + alpha * entropy_T).sum())
        tokens += len(a_T)
    return total / tokens


@pytest.mark.parametrize("overflow", ["mask", "soft"])
def test_tokens_past_the_bound_leave_the_loss_under_mask_alone(model_path, overflow):
    """Masked tokens stay as context; N_tok counts the others."""
    config = make_config(model_path, flow__overflow=overflow, flow__max_staleness=1)
    groups = make_groups(version=4, seed=4)
    module, total = load_module(config), 0.0
    whole = cut(groups, version=4, config=make_config(model_path))
    kept = sum(int((batch.staleness_T <= 1).sum()) for batch in whole)
    tokens = sum(len(batch.taken_T) for batch in whole)
    assert 0 < kept < tokens
    counted = kept if overflow == "mask" else tokens
    for batch in whole:
        logprobs_T = module(batch).logprobs_T.detach()
        ratio_T, a_T = (logprobs_T - batch.behaviour_logprobs_T).exp(), batch.advantages_T
        loss_T = -torch.minimum(ratio_T * a_T, ratio_T.clamp(0.8, 1.2) * a_T)
        in_loss_T = batch.staleness_T <= 1 if overflow == "mask" else torch.ones_like(batch.staleness_T, dtype=bool)
        total += float(loss_T[in_loss_T].sum()) / counted
    metrics = train_step(Policy(config), groups, version=4, controller=ControllerState(), config=config).metrics
    assert metrics["batch/tokens"] == counted
    assert metrics["loss"] == pytest.approx(total, rel=1e-5)


def test_the_loss_of_a_step_is_the_formula_over_whole_logits(model_path):
    config = make_config(model_path, flow__temperature=0.8, entropy__target=10.0)
    _, (result,) = _train(config, steps=1, controller=ControllerState(0.05))
    assert result.metrics["entropy/alpha"] == 0.05
    assert result.metrics["loss"] == pytest.approx(_loss_over_whole_logits(config, 0.05), rel=1e-5)


def test_metrics_are_those_counted_by_hand(model_path):
    config = make_config(model_path)
    groups = make_groups(version=4, seed=4)
    metrics = train_step(Policy(config), groups, version=4, controller=ControllerState(), config=config).metrics
    lengths = [int(n) for group in groups for n in group.responses.lengths_S]
    assert metrics["batch/groups"] == 4
    assert metrics["batch/responses"] == 16
    assert metrics["batch/tokens"] == sum(lengths)
    assert metrics["reward/trained_mean"] == (1 + 2 + 3 + 1) / 16
    assert metrics["response/length_mean"] == sum(lengths) / 16
    assert metrics["response/length_max"] == max(lengths)
    assert metrics["response/truncated_share"] == sum(n == 11 for n in lengths) / 16
    heads = [4 - int(group.responses.spans[:, 1].min()) for group in groups]
    assert metrics["staleness/head_max"] == max(heads)
    assert metrics["staleness/head_mean"] == sum(heads) / 4
    by_staleness = {key: n for key, n in metrics.items() if key.startswith("tokens/staleness_")}
    assert sum(by_staleness.values()) == sum(lengths)
    mean = sum(n * metrics[f"logprob/abs_diff_mean/{key.split('/')[1]}"] for key, n in by_staleness.items())
    assert metrics["logprob/abs_diff_mean"] == pytest.approx(mean / sum(lengths))
    assert 0 < metrics["logprob/ess"] <= 1
    assert 0 < metrics["entropy/policy"] < math.log(61)
    assert all(math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("estimate", ["exact", "sampled"])
def test_the_entropy_term_is_in_force_only_at_or_below_the_target(model_path, estimate):
    for target, alpha, following in ((10.0, 0.5, 0.505), (0.0, 0.0, 0.495)):
        config = make_config(model_path, entropy__target=target, entropy__estimate=estimate)
        _, (result,) = _train(config, steps=1, controller=ControllerState(0.5))
        assert result.metrics["entropy/alpha"] == alpha
        assert result.controller == ControllerState(following)


def test_without_control_entropy_is_measured_and_the_state_stays(model_path):
    config = make_config(model_path, entropy__control="none")
    _, (result,) = _train(config, steps=1, controller=ControllerState(0.5))
    assert result.metrics["entropy/alpha"] == 0.0
    assert result.metrics["entropy/policy"] > 0
    assert result.controller == ControllerState(0.5)


def test_gradient_checkpointing_changes_nothing(model_path):
    config = make_config(model_path)
    plain, _ = _train(config)
    recomputed, _ = _train(make_config(model_path, train__gradient_checkpointing=True))
    assert all(torch.equal(plain[name], recomputed[name]) for name in plain)


def test_an_untied_head_is_published_under_its_own_name_and_a_tied_one_once(model_path, tmp_path):
    untied = load_module(make_config(make_model(tmp_path / "untied", "llama", tie_word_embeddings=False)))
    assert "lm_head.weight" in untied.named_weights()
    tied = load_module(make_config(model_path)).named_weights()
    assert "lm_head.weight" not in tied
    assert "model.embed_tokens.weight" in tied


def test_a_step_without_tokens_is_refused(model_path):
    config = make_config(model_path)
    with pytest.raises(ValueError, match="at least one response token"):
        train_step(Policy(config), [], version=0, controller=ControllerState(), config=config)


def test_a_gradient_that_is_not_finite_stops_the_step_before_the_weights_change(model_path):
    config = make_config(model_path)
    policy = Policy(config)
    before = policy.named_weights()
    (group, *_) = make_groups()
    group.responses.logprobs_T[0] = float("nan")
    with pytest.raises(FloatingPointError, match="gradient norm"):
        train_step(policy, [group], version=0, controller=ControllerState(), config=config)
    after = policy.named_weights()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_missing_or_incomplete_model_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: there is no such folder; expected a folder in Hugging Face layout"):
        load_module(make_config(str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=r"has no config.json"):
        load_module(make_config(str(tmp_path)))


# --- several updates a training step ---------------------------------------------------------------------------------


def test_mini_batches_are_taken_in_ticket_order(model_path):
    config = make_config(model_path, train__minibatch_groups=2)
    assert split([7, 3, 9, 1], config.train) == [1, 0, 1, 0]
    assert split([7, 3, 9, 1], make_config(model_path).train) == [0, 0, 0, 0]
    assert split([], config.train) == []
    # With a KL term over all groups: 2, 4 and 8 have no signal, and come with the group after them that has one.
    counted = [True, False, True, False, True, True, False]
    assert split([7, 2, 3, 4, 9, 1, 8], config.train, counted) == [1, 0, 0, 1, 1, 0, 1]
    assert split([1, 3, 5, 7, 8], config.train, [True, True, True, True, False]) == [0, 0, 1, 1, 1]
    assert split([1, 2], config.train, [False, False]) == [0, 0]


def _plain_updates(config, steps=2):
    """N_SGD updates a training step by torch alone: π_old kept from a pass before the first."""
    module, reference = load_module(config), load_module(config)
    optimizer, size, logprobs = adamw(module, config), config.train.minibatch_groups or 4, None
    for step in range(steps):
        groups = make_groups(version=step, seed=step)
        parts = [groups[at : at + size] for at in range(0, len(groups), size)]
        known = []
        for part in parts:
            batches = cut(part, version=step, config=config)
            with torch.no_grad():
                logprobs = [(module(batch).logprobs_T, reference(batch).logprobs_T) for batch in batches]
            known.append(
                [
                    dataclasses.replace(batch, old_logprobs_T=old_T, reference_logprobs_T=ref_T)
                    for batch, (old_T, ref_T) in zip(batches, logprobs, strict=True)
                ]
            )
        updates = len(parts) * config.train.reuse
        for update in range(updates):
            batches = known[update % len(parts)]
            count = denominator(config.objective, *size_of(batches), config.train.max_response_tokens)
            for batch in batches:
                output = surrogate_sum(module, batch, config.objective, 0.0, update / updates)
                (output.loss_sum * (1 / count)).backward()
            clip_gradients(module, config.train.grad_clip)
            optimizer.step()
            optimizer.zero_grad()
    return module.named_weights()


@pytest.mark.parametrize(("minibatch", "reuse", "updates"), [(2, 1, 2), (4, 2, 2), (1, 2, 8)])
@pytest.mark.parametrize(
    "objective",
    [{}, {"objective__correction": "decoupled"}, {"objective__correction": "loglinear", "objective__loss": "grpo"}],
)
def test_several_updates_a_step_are_bit_for_bit_those_of_a_plain_torch_loop(
    model_path, minibatch, reuse, updates, objective
):
    changes = {"train__minibatch_groups": minibatch, "train__reuse": reuse, "entropy__control": "none"} | objective
    config = make_config(model_path, **changes)
    assert config.train.updates_per_step == updates
    weights, (_, result) = _train(config, steps=2)
    plain = _plain_updates(config)
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    metrics = result.metrics
    assert metrics["policy/updates"] == updates
    tokens = [metrics[f"tokens/lag_{lag}"] for lag in range(updates)]
    assert sum(tokens) == metrics["batch/tokens"] * reuse
    assert metrics["staleness/local_lag_mean"] == pytest.approx(np.average(range(updates), weights=tokens))
    shifts = [metrics[f"policy/shift/lag_{lag}"] for lag in range(updates)]
    assert shifts[0] < 1e-6 < shifts[1]


def test_the_kl_term_pulls_towards_the_initial_model_and_is_measured(model_path):
    config = make_config(
        model_path, objective__kl_beta=0.5, objective__loss="grpo", entropy__control="none", train__minibatch_groups=4
    )
    weights, (first, second) = _train(config, steps=2)
    plain = _plain_updates(config)
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    assert first.metrics["kl/reference"] == 0.0
    assert second.metrics["kl/reference"] > 0
    assert Policy(make_config(model_path)).references == {}


def test_the_divergence_from_the_initial_model_is_measured_without_a_kl_term_where_it_is_asked_for(model_path):
    plain, _ = _train(make_config(model_path))
    weights, results = _train(make_config(model_path, metrics__kl_every=2))
    assert all(torch.equal(weights[name], plain[name]) for name in plain)
    assert ["kl/reference" in result.metrics for result in results] == [True, False, True]
    assert results[0].metrics["kl/reference"] == 0.0
    assert results[2].metrics["kl/reference"] > 0
    assert [result.metrics["policy/passes_before"] for result in results] == [1.0, 0.0, 1.0]
    assert asked_of(make_config(model_path, metrics__kl_every=2, entropy__control="none")).passes_before == 0.5


def test_e_k_is_that_of_the_whole_batch_before_the_first_update(model_path):
    _, (whole,) = _train(make_config(model_path), steps=1)
    _, (parts,) = _train(make_config(model_path, train__minibatch_groups=1, train__learning_rate=0.1), steps=1)
    for name in ("entropy/policy", "entropy/sampled", "logprob/abs_diff_mean", "logprob/ess", "batch/tokens"):
        assert parts.metrics[name] == pytest.approx(whole.metrics[name], rel=1e-5), name


def test_a_constant_alpha_and_the_scripts_rule_are_in_force(model_path):
    _, (result,) = _train(make_config(model_path, entropy__control="constant", entropy__alpha=0.01), steps=1)
    assert result.metrics["entropy/alpha"] == 0.01
    scripts = make_config(model_path, entropy__rule="scripts", entropy__target=10.0)
    _, results = _train(scripts, steps=3)
    assert [result.metrics["entropy/alpha"] for result in results] == [0.0, 1e-4, 2e-4]
    assert results[-1].controller == ControllerState(3e-4)


@pytest.mark.parametrize("mask", ["before", "after"])
def test_a_masked_response_leaves_no_gradient_but_its_tokens_count(model_path, mask):
    config = make_config(model_path, objective__advantage_mask=mask)
    groups = make_groups(8, seed=5)
    assert any((group.responses.finished_S == 0).any() for group in groups)
    batches = cut(groups, version=0, config=config)
    ended_S = np.concatenate([group.responses.finished_S for group in groups])
    finished = ended_S[torch.cat([batch.responses_T for batch in batches]).numpy()]
    advantages = torch.cat([batch.advantages_T for batch in batches]).numpy()
    assert len(advantages) == sum(int(group.responses.lengths_S.sum()) for group in groups)
    assert (advantages[finished == 0] == 0).all()
    assert (advantages[finished == 1] != 0).any()


def test_correction_weights_are_bounded_and_counted(model_path):
    coupled = make_config(model_path)
    decoupled = make_config(model_path, objective__correction="decoupled", objective__correction_cap=1.5)
    _, (one,) = _train(coupled, steps=1)
    _, (two,) = _train(decoupled, steps=1)
    assert two.metrics["policy/clip_fraction"] == 0.0 < one.metrics["policy/clip_fraction"]
    assert 0 < two.metrics["policy/correction_bounded"] < 1
    assert "policy/correction_bounded/staleness_0" in two.metrics
    assert two.metrics["logprob/ess"] == one.metrics["logprob/ess"]


def test_a_context_beyond_the_model_s_is_refused_with_the_sum(model_path):
    with pytest.raises(DataError, match=r"16 \+ train.max_response_tokens 120 = 136 .* max_position_embeddings = 128"):
        load_module(make_config(model_path, train__max_response_tokens=120, train__micro_batch_tokens=256))


@pytest.mark.parametrize(("minibatch", "reuse"), [(4, 2), (1, 1)])
@pytest.mark.parametrize(
    "objective",
    [
        {"loss": "magic", "correction": "decoupled", "correction_level": "sequence"},
        {"loss": "gspo"},
        {"loss": "gspo", "correction": "old"},
        {"loss": "gspo", "correction": "decoupled", "correction_level": "geometric"},
    ],
    ids=lambda keys: "-".join(keys.values()),
)
def test_the_passes_without_a_backward_one_are_as_many_as_are_made(
    model_path, monkeypatch, minibatch, reuse, objective
):
    """In groups: a pass over a mini-batch of one of four groups is a quarter of a pass."""
    keys = {f"objective__{key}": value for key, value in objective.items()}
    config = make_config(
        model_path, train__minibatch_groups=minibatch, train__reuse=reuse, entropy__control="none", **keys
    )
    policy, made, plain = Policy(config), [], Policy.__call__

    def counted(self, batch, *given, **named):
        if not given and not named:  # without a loss
            made.append(len(batch.responses_T.unique()))
        return plain(self, batch, *given, **named)

    monkeypatch.setattr(Policy, "__call__", counted)
    groups = make_groups()
    found = train_step(policy, groups, version=0, controller=ControllerState(), config=config).metrics
    passes = sum(made) / sum(len(group.rewards_S) for group in groups)
    assert found["policy/passes_before"] == pytest.approx(passes)
    assert asked_of(config).passes_before == pytest.approx(passes)
