import json

import pytest
import torch
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from train_on_ranks import BALLAST, STEPS, config_named, run
from two_ranks import on_two_ranks

NAMES = [
    "0",
    "1",
    "2",
    "3",
    "updates-0",
    "updates-3",
    "optimizer-1",
    "optimizer-2",
    "optimizer-3",
    "optimizer+parameters-3",
]


@pytest.fixture(scope="module")
def of_two_ranks(model_path, tmp_path_factory):
    """Weights and metrics that two ranks reach at each ZeRO stage; one launch, since imports cost more than steps."""
    out = tmp_path_factory.mktemp("ranks")
    on_two_ranks("train_on_ranks.py", model_path, out, *NAMES)
    return out


@pytest.fixture(scope="module")
def of_one_rank(model_path):
    found = {}
    for name in ("0", "updates-0"):
        config = config_named(model_path, name)
        policy = Policy(config)
        metrics, _ = run(policy, config, range(STEPS), ControllerState())
        found[name] = (policy.named_weights(), metrics)
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_with_uneven_shares_train_as_one_rank_does(of_two_ranks, of_one_rank, name):
    expected, expected_metrics = of_one_rank["updates-0" if name.startswith("updates") else "0"]
    weights = torch.load(of_two_ranks / f"zero{name}.pt")
    metrics = json.loads((of_two_ranks / f"zero{name}.json").read_text())
    assert list(weights) == list(expected)
    for key, weight in expected.items():
        # Five steps at lr 1e-3 move a weight by up to 5e-3; Adam magnifies rounding where a gradient is near zero.
        torch.testing.assert_close(weights[key], weight, rtol=0, atol=3e-5)
    losses, expected_losses = metrics.pop("losses"), expected_metrics["losses"]
    assert len(losses) == STEPS == 5
    assert losses == pytest.approx(expected_losses, rel=0, abs=1e-5)
    # Shifts of the first update and of nothing but rounding are compared absolutely.
    numbers = {key: value for key, value in expected_metrics.items() if key != "losses"}
    own = metrics.pop("own_peak")
    for key in ("memory/device_peak_bytes", "memory/host_peak_bytes"):
        assert numbers.pop(key) > 0
        assert metrics.pop(key) > own + BALLAST / 2  # the other rank, which holds that much, is the largest
    assert metrics == pytest.approx(numbers, rel=1e-4, abs=1e-6)
