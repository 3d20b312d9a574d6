"""Every difference of log-probabilities that is bounded before it is exponentiated is counted, by what it is for."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from leeway_rl.learner.objective.token_op import TokenOutput
from leeway_rl.learner.step import cut
from leeway_rl.learner.tally import Tally
from tiny_policy import make_config, make_groups

ALONE = SimpleNamespace(reduce=lambda values, largest=False: values)
"""A policy on one rank."""


def counted(objective, updates=1, **far):
    """The counts of a batch on which every log-probability is -1, but for the first tokens of ``far``: of the policy,
    of what sampled, of π_old, of π_ref, each with the numbers of those tokens. And the batch."""
    config = make_config("none", train__micro_batch_tokens=4096, **objective)
    (batch,) = cut(make_groups(), version=0, config=config)

    def those(name):
        logprobs_T = torch.full((len(batch.taken_T),), -1.0)
        logprobs_T[: far.get(name, 0)] = -21.5
        return logprobs_T

    kl = config.objective.kl_beta > 0
    batch = replace(
        batch,
        behaviour_logprobs_T=those("behaviour"),
        old_logprobs_T=those("old") if updates > 1 else None,
        reference_logprobs_T=those("reference") if kl else None,
        log_weights_T=those("weights") + 1.0 if config.objective.correction_level != "token" else None,
        log_ratio_T=those("ratios") + 1.0 if config.objective.loss == "gspo" else None,
    )
    output = TokenOutput(torch.zeros(()), those("policy"), torch.ones(len(batch.taken_T)))
    tally = Tally(config.objective, updates, against_reference=kl)
    tally.add_measured(batch, output)
    for lag in range(updates):
        tally.add_update(batch, output, lag, 1)
    return {name: value for name, value in tally.metrics(ALONE).items() if name.endswith("beyond_bound")}


@pytest.mark.parametrize(
    ("objective", "updates", "far", "expected"),
    [
        ({}, 1, {"behaviour": 3}, {"logprob": 3, "policy": 3}),
        ({}, 1, {"policy": 2}, {"logprob": 2, "policy": 2}),
        ({}, 1, {"policy": 2, "behaviour": 2}, {"logprob": 0, "policy": 0}),
        ({}, 3, {"behaviour": 3}, {"logprob": 3, "policy": 9}),
        ({"objective__correction": "old"}, 1, {"behaviour": 3}, {"logprob": 3, "policy": 0}),
        # In the first of three updates the ratio to π_old is 1.
        ({"objective__correction": "old"}, 3, {"old": 4}, {"logprob": 0, "policy": 8}),
        ({"objective__kl_beta": 0.1}, 2, {"reference": 5}, {"logprob": 0, "policy": 0, "kl": 10}),
        (
            {"objective__correction": "decoupled", "objective__correction_level": "sequence"},
            1,
            {"weights": 6},
            {"logprob": 0, "policy": 0, "policy/correction": 6},
        ),
        ({"objective__loss": "gspo"}, 1, {"ratios": 7}, {"logprob": 0, "policy": 7}),
        ({"objective__loss": "gspo"}, 1, {"behaviour": 7}, {"logprob": 7, "policy": 0}),
        ({"objective__loss": "mine.py:loss"}, 1, {"behaviour": 7}, None),
    ],
)
def test_each_kind_has_its_count(objective, updates, far, expected, monkeypatch):
    if expected is None:  # what a loss of the user's exponentiates, nobody bounds
        users = SimpleNamespace(stopped=lambda count: torch.zeros(count, dtype=torch.bool))
        monkeypatch.setattr("leeway_rl.learner.own_loss.of", lambda objective: users)
        expected = {"logprob": 7}
    names = {"policy/correction": "policy/correction_beyond_bound"}
    assert counted(objective, updates, **far) == {
        names.get(name, f"{name}/beyond_bound"): count for name, count in expected.items()
    }
