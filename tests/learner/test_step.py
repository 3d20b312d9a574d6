import math

import pytest
import torch
from leeway_rl.common.errors import DataError
from leeway_rl.learner.model import Policy, adamw, clip_gradients, load_module
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.step import cut, surrogate_sum, train_step
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
    for budget in (24, 48, 100):
        count, gradient = _gradient(make_config(model_path, train__micro_batch_tokens=budget))
        assert count > whole_count == 1
        assert (gradient - whole).norm() / whole.norm() <= 1e-6


@torch.no_grad()
def _loss_over_whole_logits(config, alpha):
    module, total, tokens = load_module(config), 0.0, 0
    temperature = config.flow.temperature
    for batch in cut(make_groups(), version=0, config=config):
        hidden_TH = module.language_model.model(
            input_ids=batch.input_ids_RL, position_ids=batch.position_ids_RL, use_cache=False
        ).last_hidden_state.flatten(0, 1)[batch.targets_T]
        log_softmax_TV = torch.log_softmax(hidden_TH @ module.language_model.lm_head.weight.t() / temperature, -1)
        ratio_T = (log_softmax_TV.gather(-1, batch.taken_T[:, None])[:, 0] - batch.behaviour_logprobs_T).exp()
        entropy_T = -(log_softmax_TV.exp() * log_softmax_TV).sum(-1)
        a_T = batch.advantages_T
        total -= float((torch.minimum(ratio_T * a_T, ratio_T.clamp(0.8, 1.2) * a_T) + alpha * entropy_T).sum())
        tokens += len(a_T)
    return total / tokens


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
    group.responses.logprobs_T[0] = -200.0
    with pytest.raises(FloatingPointError, match="gradient norm"):
        train_step(policy, [group], version=0, controller=ControllerState(), config=config)
    after = policy.named_weights()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_missing_or_incomplete_model_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist; a folder with config.json"):
        load_module(make_config(str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match=r"has no config.json"):
        load_module(make_config(str(tmp_path)))
