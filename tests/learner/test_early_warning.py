"""What is warned of early: by the mean of ten training steps, and by nothing less."""

import pytest
from leeway_rl.common.config import Metrics
from leeway_rl.learner.early_warning import EarlyWarning


def told(settings, steps):
    warning = EarlyWarning(Metrics(**settings))
    return [warning.saw(step) for step in steps]


def test_data_that_stay_off_policy_are_warned_of_and_it_is_over_when_they_recover():
    low, high = {"logprob/ess": 0.25}, {"logprob/ess": 0.95}
    said = told({}, [low] * 11 + [high] * 4)
    assert said[:9] == [""] * 9, "ten steps are looked at"
    assert "effective sample size (logprob/ess) is 0.25 of their number, below metrics.warn_ess = 0.5" in said[10]
    assert [bool(text) for text in said[11:]] == [True, True, True, False]  # 0.25 + 4·0.07 = 0.53


def test_aligned_gradients_are_warned_of_where_they_are_measured():
    said = told({"warn_cosine": 0.2}, [{"logprob/ess": 1.0}] + [{"logprob/ess": 1.0, "grad_cosine": 0.25}] * 10)
    assert said[:10] == [""] * 10, "the first step has no cosine"
    assert "mean of their cosine (grad_cosine) is 0.25, above metrics.warn_cosine = 0.2" in said[10]


def test_an_engine_that_samples_another_policy_is_told_by_its_fresh_tokens():
    """A mixture's experts that vLLM did not repack at a weight update gave 1.7 nats, and no other sign."""
    fresh, old = {"logprob/abs_diff_mean/staleness_0": 1.7}, {"logprob/abs_diff_mean/staleness_1": 1.7}
    said = told({}, [fresh, old] * 10)
    assert said[:18] == [""] * 18, "ten steps with fresh tokens are looked at"
    assert "sampler and learner compute different things" in said[18]
    assert "differ by 1.70 nats in the mean, above metrics.warn_mismatch = 0.1" in said[18]
    assert told({}, [{"logprob/abs_diff_mean/staleness_0": 0.02}] * 12) == [""] * 12, "bfloat16 beside float32"


@pytest.mark.parametrize(
    "step", [{"logprob/ess": 0.0}, {"grad_cosine": 1.0}, {"logprob/abs_diff_mean/staleness_0": 9.0}]
)
def test_each_can_be_turned_off(step):
    assert told({"warn_ess": 0.0, "warn_cosine": 1.0, "warn_mismatch": 0.0}, [step] * 12) == [""] * 12
