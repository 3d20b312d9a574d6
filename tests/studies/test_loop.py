"""The loop in one process: data is exactly as old as a study says."""

import numpy as np
import pytest
from leeway_rl.common.config import compose, expand
from leeway_rl.learner.flow.curriculum import load_curriculum
from leeway_rl.learner.packing import staleness_of
from leeway_rl.studies.loop import MOST_SAMPLED, Collector, Sampler, training
from leeway_rl.studies.tail import Tail
from transformers import AutoTokenizer

SMALL = ["train.groups_per_step=3", "train.group_size=4", "train.max_response_tokens=32", "entropy.control=none"]
TAIL = Tail(mean=3, sigma=1.0, most=8)
LAG_2 = ("flow.max_staleness=2", "flow.inject_lag=2")


def small(*settings):
    return compose(["tiny"], [*SMALL, *settings])


def series(column, *settings, steps=6, **options):
    return [metrics[column] for metrics in training(small(*settings), steps, **options)]


def test_every_token_is_exactly_as_old_as_the_injected_lag_after_as_many_steps():
    steps = list(training(small(*LAG_2), 5))
    for column in ("staleness/head_mean", "staleness/head_max", "staleness/token_mean"):
        assert [metrics[column] for metrics in steps] == [0, 1, 2, 2, 2]
    assert all(f"tokens/staleness_{n}" in steps[4] for n in (2,))
    assert steps[4]["logprob/abs_diff_mean"] > 100 * steps[0]["logprob/abs_diff_mean"]


def test_the_first_step_is_the_same_whatever_the_lag_and_the_run_is_the_same_again():
    """Nothing is older than version 0; and what ran before in the process changes nothing."""
    lagged, again = (series("entropy/policy", *LAG_2, steps=4) for _ in range(2))
    fresh = series("entropy/policy", steps=4)
    assert lagged == again
    assert lagged[0] == fresh[0]
    assert lagged[2] != fresh[2]


def test_a_groups_lag_is_a_matter_of_its_ticket_and_has_the_mean_it_was_given():
    drawn = [TAIL.lag(0, ticket) for ticket in range(4000)]
    assert drawn == [TAIL.lag(0, ticket) for ticket in range(4000)]
    assert drawn != [TAIL.lag(1, ticket) for ticket in range(4000)]
    assert max(drawn) == TAIL.most
    assert np.mean([Tail(mean=3, sigma=1.0, most=1000).lag(0, ticket) for ticket in range(4000)]) == pytest.approx(
        3, abs=0.2
    )


@pytest.mark.parametrize(("overflow", "oldest"), [("wait", 2), ("drop", 2), ("soft", 8)])
def test_a_heavy_tail_meets_the_overflow_policy(overflow, oldest):
    steps = list(training(small("flow.max_staleness=2", f"flow.overflow={overflow}"), 12, tail=TAIL))
    assert max(metrics["staleness/head_max"] for metrics in steps) == oldest
    assert all(metrics["batch/groups"] == 3 for metrics in steps)
    late = sum(metrics["overflow/groups"] for metrics in steps)
    assert (late > 0) == (overflow == "drop")


def test_mask_trains_the_young_tokens_of_old_groups_and_no_other():
    tail = Tail(mean=3, sigma=1.0, most=8, tokens_per_version=4)
    steps = list(training(small("flow.max_staleness=2", "flow.overflow=mask"), 12, tail=tail))
    assert max(metrics["staleness/head_max"] for metrics in steps) > 2
    trained = {int(name.split("_")[-1]) for metrics in steps for name in metrics if name.startswith("tokens/staleness")}
    assert trained == {0, 1, 2}


@pytest.fixture(scope="module")
def sampler():
    config = small()
    tokenizer = AutoTokenizer.from_pretrained(expand(config.model.path))
    return Sampler(config, tokenizer), load_curriculum(config, tokenizer)


class Weights:
    """In the place of a policy: the initial model's weights, times a factor."""

    def __init__(self, factor):
        from leeway_rl.learner.model import load_module

        weights = load_module(small()).named_weights()
        self.weights = {name: factor * tensor.detach() for name, tensor in weights.items()}

    def named_weights(self):
        return self.weights


def test_a_group_under_way_goes_on_under_newer_versions_up_to_that_of_the_step(sampler):
    sampler, curriculum = sampler
    for version in range(4):
        sampler.take(version, Weights(1 + version / 50))
    tickets = [curriculum.ticket(n, 0, min_version=n) for n in range(3)]
    groups = sampler.groups(tickets, newest=2, tokens_per_version=5)
    for ticket, group in zip(tickets, groups, strict=True):
        length = int(group.responses.lengths_S[0])
        assert length > 10
        expected = [max(0, 2 - ticket.ticket - token // 5) for token in range(length)]
        assert staleness_of(group.responses, 2)[:length].tolist() == expected


def test_sampled_side_by_side_is_sampled_one_by_one(sampler):
    sampler, curriculum = sampler
    sampler.take(0, Weights(1))
    tickets = [curriculum.ticket(n, 0, min_version=0) for n in range(12)]
    together = sampler.groups(tickets, newest=0)
    alone = [sampler.groups([ticket], newest=0)[0] for ticket in tickets]
    for one, other in zip(together, alone, strict=True):
        assert one.ticket is other.ticket
        assert one.responses.tokens_T.tolist() == other.responses.tokens_T.tolist()
        np.testing.assert_allclose(one.responses.logprobs_T, other.responses.logprobs_T, atol=1e-5)
        assert one.rewards_S.tolist() == other.rewards_S.tolist()


def test_tickets_that_a_batch_did_not_need_are_the_next_batchs(sampler):
    sampler, curriculum = sampler
    sampler.take(0, Weights(1))
    collector = Collector(curriculum, sampler)
    batches = [collector.collect(0, 0, small()) for _ in range(3)]
    numbers = [group.ticket.ticket for batch in batches for group in batch.sampled]
    assert numbers == list(range(len(numbers)))
    assert all(len(batch.trained) == 3 and batch.trained[-1] is batch.sampled[-1] for batch in batches)


def test_a_policy_without_any_signal_is_not_sampled_for_ever():
    """Near τ = 0 a group's responses are all the same."""
    (metrics,) = training(small("flow.temperature=0.01"), 1)
    assert metrics["generated/groups"] == MOST_SAMPLED * 3
    assert "loss" not in metrics


def test_an_evaluation_keeps_its_prompts_from_training_and_is_there_when_due():
    found = list(training(small(), 4, evaluate_every=2))
    assert ["evaluation/reward" in metrics for metrics in found] == [True, False, True, False]
    assert 0.3 < found[0]["evaluation/reward"] < 0.9


def test_four_updates_a_step_take_entropy_that_the_controller_keeps():
    small = ["train.groups_per_step=4", "train.minibatch_groups=1", "entropy.delta=0.02", "entropy.target=0.3"]

    def entropy(control):
        config = compose(["tiny"], [*small, f"entropy.control={control}"])
        return [metrics["entropy/policy"] for metrics in training(config, 25)]

    free, kept = entropy("none"), entropy("adaptive")
    assert free[0] == kept[0]
    assert sum(kept[-5:]) > 1.5 * sum(free[-5:])
