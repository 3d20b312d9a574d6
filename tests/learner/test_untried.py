"""A model of a kind that nobody has tried is compared with transformers' own code before it is trained."""

import pytest
from leeway_rl.common.errors import DataError
from leeway_rl.learner import loading, model, untried
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.untried import refuse_if_packing_changes
from tiny_policy import make_config, make_model


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    """No kind is refused by name, none has been tried, and of none is known that its logits are scaled."""
    monkeypatch.setattr(loading, "why_not_trained", lambda keys: None)
    monkeypatch.setattr(untried, "TRIED", frozenset())
    monkeypatch.setattr(model, "logits_divisor", lambda keys: 1.0)


def policy_of(tmp_path, kind, **changes):
    return Policy(make_config(make_model(tmp_path / "model", kind, **changes)))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("lfm2", {"layer_types": ["conv", "full_attention"]}),  # a convolution runs on into the next response
        ("granite", {"logits_scaling": 8.0}),
    ],
)
def test_one_that_the_learner_would_get_wrong_is_refused_with_the_difference(tmp_path, kind, changes):
    policy = policy_of(tmp_path, kind, **changes)
    with pytest.raises(DataError, match=rf"nobody has tried a {kind} with Leeway, .* differ .* by [\d.]+ nats a token"):
        refuse_if_packing_changes(policy)


def test_one_whose_code_forgets_where_responses_end_is_refused(tmp_path):
    policy = policy_of(tmp_path, "nemotron")
    with pytest.raises(DataError, match="NemotronAttention is not told by its model where packed responses end"):
        refuse_if_packing_changes(policy)


@pytest.mark.parametrize("stage", [0, 3])
def test_one_that_is_right_passes_and_keeps_the_learners_attention(tmp_path, stage):
    path = make_model(tmp_path / "model", "qwen2", use_sliding_window=True, sliding_window=4, max_window_layers=1)
    policy = Policy(make_config(path, train__zero_stage=stage))
    for _ in range(2):  # with transformers' attention left in its place, the second would be refused
        refuse_if_packing_changes(policy)


def test_of_one_that_was_tried_no_pass_is_made(tmp_path, monkeypatch):
    policy = policy_of(tmp_path, "llama")
    monkeypatch.setattr(untried, "TRIED", frozenset(["llama"]))
    monkeypatch.setattr(policy.module, "forward", None)
    refuse_if_packing_changes(policy)
