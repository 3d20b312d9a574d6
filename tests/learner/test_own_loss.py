"""A loss of the user's: it trains as ours do, and what is no loss stops the step before the optimizer moves."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from leeway_rl.common.config import Config, compose
from leeway_rl.common.errors import ConfigError
from leeway_rl.learner import own_loss
from leeway_rl.learner.objective.entropy import ControllerState
from leeway_rl.learner.policy import Policy
from leeway_rl.learner.step import cut, surrogate_sum, train_step
from leeway_rl.leeway.planning.arithmetic.asked import asked_of
from leeway_rl.leeway.running.own_code import with_digests
from tiny_policy import make_config, make_groups
from two_ranks import on_two_ranks

ROOT = Path(__file__).resolve().parent.parent.parent
MAGIC = f"{ROOT / 'examples' / 'own_loss.py'}:magic"


def trained(config, steps=2):
    """Weights, and the metrics of every step, after training with what makes α and the staleness matter."""
    policy, controller, metrics = Policy(config), ControllerState(0.02), []
    for step in range(steps):
        groups = make_groups(version=2 + step, seed=step)
        result = train_step(policy, groups, version=2 + step, controller=controller, config=config)
        controller = result.controller
        metrics.append({name: value for name, value in result.metrics.items() if not name.startswith("memory/")})
    return policy.named_weights(), metrics


@pytest.fixture
def written(tmp_path):
    """``written(body, parameters)``: what names a loss with that body in a file of its own."""

    def write(body, parameters="logprobs, anchor, advantages"):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        (folder / "mine.py").write_text(f"import torch\n\n\ndef loss({parameters}):\n{lines}\n")
        return f"{folder / 'mine.py'}:loss"

    return write


MANY = {"train__minibatch_groups": 2, "train__reuse": 2, "train__learning_rate": 3e-3}


@pytest.mark.parametrize(
    ("correction", "updates"),
    [("none", {}), *((correction, MANY) for correction in ("none", "old", "decoupled", "loglinear"))],
)
def test_magic_in_ten_lines_of_a_user_s_gives_our_weights_bit_for_bit(model_path, correction, updates):
    assert len((ROOT / "examples" / "own_loss.py").read_text().split("import torch")[1].strip().splitlines()) <= 10
    changes = {"objective__correction": correction, "entropy__target": 10.0, "train__micro_batch_tokens": 64, **updates}
    ours, our_metrics = trained(make_config(model_path, **changes))
    theirs, metrics = trained(make_config(model_path, objective__loss=MAGIC, **changes))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    bounded = [step.pop("policy/beyond_bound") for step in our_metrics]
    assert (metrics, bounded) == (our_metrics, [0.0, 0.0])  # clipped shares, losses and all
    assert our_metrics[-1]["entropy/alpha"] > 0
    assert correction != "none" or our_metrics[-1]["policy/clip_fraction"] > 0


GSPO = """
ratio = torch.exp(response_log_ratios + (logprobs - logprobs.detach()))
return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
"""


@pytest.mark.parametrize("updates", [{}, MANY], ids=["one update", "four updates"])
def test_a_mean_over_responses_and_ratios_of_whole_responses_are_a_user_s_too(model_path, written, updates):
    mine = written(GSPO.strip(), "logprobs, response_log_ratios, advantages")
    keys = {"objective__loss": mine, "objective__loss_mean": "responses", "objective__loss_level": "geometric"}
    kl = {"objective__kl_beta": 0.1}
    ours, our_metrics = trained(make_config(model_path, objective__loss="gspo", **kl, **updates))
    config = make_config(model_path, **keys, **kl, **updates)
    theirs, metrics = trained(config)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    passes = asked_of(config).passes_before
    assert metrics[-1]["policy/passes_before"] == our_metrics[-1]["policy/passes_before"] == passes


def test_a_token_tells_what_it_knows(model_path, written, tmp_path):
    """By a loss that writes down what it is given, in the second of two updates on groups of three versions back."""
    body = f"""
seen = dict(locals())
torch.save({{name: value.detach() for name, value in seen.items()}}, {str(tmp_path / "seen.pt")!r})
return -logprobs * advantages + entropy * 0.0 + reference * 0.0
"""
    names = ", ".join(name for name in own_loss.calling.ASKED if name != "response_log_ratios")
    changes = {"objective__correction": "decoupled", "objective__kl_beta": 0.1, "train__micro_batch_tokens": 4096}
    mine = written(body.strip(), names)
    config = make_config(model_path, objective__loss=mine, train__reuse=2, **changes)
    groups = make_groups(version=2)
    train_step(Policy(config), groups, version=2, controller=ControllerState(), config=config)
    seen, (batch,) = torch.load(tmp_path / "seen.pt"), cut(groups, version=2, config=config)
    for name, tensor_T in {
        "advantages": batch.advantages_T,
        "behaviour": batch.behaviour_logprobs_T,
        "lengths": batch.lengths_T.float(),
        "staleness": batch.staleness_T,
        "signal": batch.signal_T,
    }.items():
        assert torch.equal(seen[name], tensor_T), name
    rewards = [np.repeat(group.rewards_S, group.responses.lengths_S) for group in groups]
    assert seen["rewards"].tolist() == np.concatenate(rewards).tolist()
    assert torch.equal(seen["old"], seen["anchor"])
    assert not torch.equal(seen["old"], seen["logprobs"])
    assert torch.equal(seen["weights"], (seen["old"] - seen["behaviour"]).exp().clamp(max=2.0))
    assert not torch.equal(seen["reference"], seen["logprobs"])
    assert (seen["entropy"] > 0).all()


def test_the_page_says_what_each_parameter_is():
    page = (ROOT / "docs" / "how-to" / "own-loss.md").read_text()
    told = {name for row in re.findall(r"^\| (`.*?) \|", page, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert told == set(own_loss.calling.ASKED)


def test_options_are_keyword_arguments(model_path, written):
    mine = written("return -scale * logprobs * advantages", "logprobs, advantages, scale")
    metrics = [
        trained(make_config(model_path, objective__loss=mine, objective__loss_options={"scale": scale}), 1)[1][0]
        for scale in (1.0, 3.0)
    ]
    assert metrics[1]["loss"] == pytest.approx(3 * metrics[0]["loss"], rel=1e-5)


def test_a_loss_that_writes_into_what_it_is_given_does_not_change_the_batch(model_path, written):
    body = "found = -torch.exp(logprobs - anchor) * advantages.clone()\n"
    kept, writes = written(body + "return found"), written(body + "advantages.zero_()\nreturn found")
    one, two = (trained(make_config(model_path, objective__loss=mine, **MANY), 1)[0] for mine in (kept, writes))
    assert all(torch.equal(one[name], two[name]) for name in one)


# --- what is refused before a model is loaded -------------------------------------------------------------------------


DUE = (
    "it returned a tensor of shape [], float32 on cpu where it has to return a loss for each token: a tensor of shape "
)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return -logprobs.sum()", DUE + "[7], float32 on cpu"),
        ("return -logprobs.squeeze()", DUE + "[1], float32 on cpu"),
        ("return 1.0", "it returned a float where it has to return a loss for each token"),
        ("return (-logprobs).double()", "it returned a tensor of shape [7], float64 on cpu"),
        ("return -logprobs.detach() * advantages", "what it returned has no gradient by logprobs or entropy"),
        ("return -advantages", "what it returned has no gradient by logprobs or entropy"),
        ("return logprobs / (advantages - advantages)", "it gave -inf for a token with logprobs -"),
        ("return (logprobs - logprobs.detach()).abs().sqrt()", "its gradient is nan for a token with logprobs -"),
        ("return logprobs.sub_(logprobs.detach().clone()).abs_().sqrt_()", "its gradient is nan for a token with"),
        ("torch.nowhere", "AttributeError: module 'torch' has no attribute 'nowhere' (line 5 of mine.py)"),
        ("exit(3)", "SystemExit: 3 (line 5 of mine.py)"),
    ],
)
def test_what_is_no_loss_is_named_when_it_is_tried_out(written, body, said):
    use = written(body)
    with pytest.raises(ConfigError, match=re.escape(f"objective.loss = {use!r}: {said}")):
        own_loss.prepare(_with(f"objective.loss={use}"))


def _with(*settings) -> Config:
    return compose(["tiny"], list(settings))


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("{here}/none.py:loss", "none.py: no such file; it has to be at this path on every learner's machine"),
        ("{here}/mine.py:los", "mine.py has no 'los'; did you mean 'loss'?"),
        ("{here}/mine.py:NUMBER", "it is int, and no function"),
        ("{here}/mine.py:takes", "cannot be called with (logprobs): missing a required argument: 'logprob'"),
        ("{here}/mine.py:takes", "it is (logprobs, logprob); it may ask for logprobs, entropy, anchor, weights, "),
        ("{here}/broken.py:loss", "ModuleNotFoundError: No module named 'nowhere' (line 1 of broken.py)"),
    ],
)
def test_what_cannot_be_loaded_is_told_in_one_line(tmp_path, use, said):
    text = (
        "NUMBER = 3\ndef loss(logprobs):\n    return -logprobs\ndef takes(logprobs, logprob):\n    return -logprobs\n"
    )
    (tmp_path / "mine.py").write_text(text)
    (tmp_path / "broken.py").write_text("import nowhere\n")
    with pytest.raises(ConfigError, match=re.escape(said)):
        own_loss.prepare(_with(f"objective.loss={use.format(here=tmp_path)}"))


@pytest.mark.parametrize(
    ("parameters", "settings", "said"),
    [
        ("logprobs, reference", [], "asks for reference, and objective.kl_beta = 0 loads no reference model"),
        ("logprobs, response_log_ratios", [], "asks for response_log_ratios, with objective.loss_level = 'token'"),
        (
            "logprobs",
            ["objective.loss_level=geometric"],
            "does not ask for response_log_ratios, with",
        ),
        ("logprobs, anchor", ["objective.loss_options.anchor=1"], "multiple values for keyword argument 'anchor'"),
    ],
)
def test_what_a_loss_asks_for_has_to_be_there(written, parameters, settings, said):
    with pytest.raises(ConfigError, match=said):
        own_loss.prepare(_with(f"objective.loss={written('return -logprobs', parameters)}", *settings))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["objective.loss=magik"], "did you mean 'magic'"),
        (["objective.loss=mine.py:f", "objective.clip_high=0.3"], "has its numbers from objective.loss_options"),
        (["objective.loss=mine.py:f", "objective.dual_clip=3.0"], "no clip of that kind"),
        (["objective.loss_mean=responses"], "objective.loss_mean = 'responses' .* it is for a loss of yours"),
        (["objective.loss_level=geometric"], "it is for a loss of yours"),
        (["objective.loss_options.low=0.1"], "it is for a loss of yours"),
    ],
)
def test_keys_of_another_loss_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        _with(*settings)


def test_a_path_is_relative_to_its_preset_or_to_where_it_is_typed(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text('[objective]\nloss = "mine.py:f"\n')
    assert compose(["tiny", str(tmp_path / "mine.toml")], []).objective.loss == f"{tmp_path}/mine.py:f"
    monkeypatch.chdir(tmp_path)
    assert _with("objective.loss=mine.py:f").objective.loss == f"{tmp_path}/mine.py:f"


def test_a_run_notes_the_digest_of_its_loss_and_goes_on_with_no_other(written):
    use = written("return -logprobs * advantages")
    begun = with_digests(_with(f"objective.loss={use}"))
    digest = begun.objective.loss_digest
    own_loss.prepare(begun)  # the learner finds the same
    file = Path(use.partition(":")[0])
    file.write_text(file.read_text() + "# another\n")
    with pytest.raises(ConfigError, match=f"code of the loss here .* started with {digest}.*objective.loss_digest=any"):
        with_digests(begun)
    free = begun.objective.model_copy(update={"loss_digest": "any"})
    assert with_digests(begun.model_copy(update={"objective": free})).objective.loss_digest == "any"


# --- what fails in a step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "if len(logprobs) > 7:\n    raise ValueError('too many')\nreturn -logprobs",
            "ValueError: too many (line 6 of mine.py)",
        ),
        ("return -logprobs / (logprobs > -2.0)", "it gave inf for a token with logprobs -"),
        ("return -logprobs if len(logprobs) < 8 else -logprobs.mean()", "it returned a tensor of shape []"),
    ],
)
@pytest.mark.parametrize("zero_stage", [0, 2])
def test_what_fails_in_a_step_stops_it_before_the_optimizer_moves(model_path, written, body, said, zero_stage):
    config = make_config(model_path, objective__loss=written(body), train__zero_stage=zero_stage)
    policy = Policy(config)
    before = policy.named_weights()
    with pytest.raises(ConfigError, match=re.escape(f"mine.py:loss': {said}")) as failed:
        train_step(policy, make_groups(), version=0, controller=ControllerState(), config=config)
    assert "\n" not in str(failed.value)
    assert all(torch.equal(weight, before[name]) for name, weight in policy.named_weights().items())
    # What failed once does not stay: another step is tried anew.
    with pytest.raises(ConfigError, match=re.escape(said)):
        surrogate_sum(policy.module, cut(make_groups(), version=0, config=config)[0], config.objective, 0.0)


@pytest.mark.timeout(900)
def test_two_ranks_train_by_it_and_stop_together(model_path, written, tmp_path):
    body = "if os.environ['RANK'] == '1' and len(logprobs) > 7:\n    raise ValueError('only here')\nreturn -logprobs"
    alone = written("import os\n" + body, "logprobs")
    on_two_ranks("own_loss_on_ranks.py", model_path, MAGIC, alone, tmp_path)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["equal"] == {"0": True, "2": True, "3": True}
    assert found["said"][1].startswith(f"objective.loss = {alone!r}: ValueError: only here (line ")
    assert re.match(r"rank 1 \(.*\): objective.loss = .*ValueError: only here", found["said"][0])
    assert found["moved"] == [False, False, False]
