"""Combinations that cannot work are refused at start, by the names of their keys."""

import pytest
from leeway_rl.common.config import compose, dump, parse
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.examples import one_process
from leeway_rl.learner import checkpoint
from leeway_rl.learner.startup import refuse_older
from leeway_rl.leeway.proving import prove


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["train.minibatch_groups=5"], r"train.minibatch_groups = 5 .* train.groups_per_step = 16: 16 = 3 x 5 \+ 1"),
        (["train.minibatch_groups=32"], r"16 = 0 x 32 \+ 16"),
        (
            ["objective.advantage_mask=before", "train.group_size=2"],
            r"objective.advantage_mask = 'before' needs train.group_size of at least 3: of 2, .* leaves 1",
        ),
        (["objective.kl_groups=all"], r"objective.kl_groups = 'all' with objective.kl_beta = 0"),
        (["objective.correction_range=[2.0, 0.5]"], r"objective.correction_range = \[2.0, 0.5\]"),
        (["entropy.control=constant"], r"entropy.control = 'constant' with entropy.alpha = 0.0"),
        (["train.offload=optimizer"], r"train.offload = 'optimizer' with train.zero_stage = 0: .* at least 1"),
        (
            ["train.offload=optimizer+parameters", "train.zero_stage=2"],
            r"train.offload = 'optimizer\+parameters' with train.zero_stage = 2: .* at least 3",
        ),
        (
            ["objective.trust_region=0.2"],
            r"objective.trust_region = 0.2 with objective.loss = 'magic': only 'dppo' has",
        ),
        (
            ["objective.loss=gspo", "objective.trust_region_by=kl"],
            r"objective.trust_region_by = 'kl' with .*take that loss",
        ),
        (["entropy.alpha=0.001"], r"entropy.control = 'adaptive' with entropy.alpha = 0.001"),
    ],
)
def test_an_impossible_combination_names_its_keys(settings, message):
    with pytest.raises(ConfigError, match=message):
        compose(["tiny"], settings)


def test_updates_a_step_are_the_report_s_product():
    train = compose(["tiny"], ["train.minibatch_groups=4", "train.reuse=3"]).train
    assert train.updates_per_step == 4 * 3
    assert compose(["tiny"], []).train.updates_per_step == 1


def test_every_option_survives_the_dump():
    settings = [
        "objective.loss=grpo",
        "objective.kl_beta=0.001",
        "objective.kl_groups=all",
        "objective.correction_range=[0.2, 3.0]",
        "train.minibatch_groups=8",
        "entropy.rule=scripts",
        "entropy.delta=0.001",
    ]
    config = compose(["tiny"], settings)
    assert parse(dump(config)) == config


def test_a_checkpoint_of_an_older_leeway_is_refused_before_the_model_loads(tmp_path):
    refuse_older(tmp_path)  # nothing is there
    folder = tmp_path / "step-000002"
    folder.mkdir()
    (folder / checkpoint.STATE).write_text('{"version": 2}')
    (folder / checkpoint.COMPLETE).write_text('{"files": {}}')
    with pytest.raises(DataError, match=r"step-000002: an older Leeway wrote it.*export the model with it"):
        refuse_older(tmp_path)
    (folder / checkpoint.STATE).write_text('{"checksums": "shards"}')
    refuse_older(tmp_path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["objective.loss=gspo"], "whole responses"),
        (["objective.correction=decoupled", "objective.correction_level=sequence"], "whole responses"),
        (["train.learning_rate_by_ess=sqrt"], r"train\.learning_rate_by_ess = 'sqrt'"),
        (["train.minibatch_groups=4"], "one update a training step, not 4"),
        (["metrics.kl_every=5"], "no reference model"),
        (["stages=[{from_step=1,kl_beta=0.1}]", "train.steps=9"], "no reference model"),
    ],
)
def test_the_plain_loop_refuses_what_it_would_compute_otherwise_and_prove_does_before_it_starts(
    settings, said, tmp_path, monkeypatch
):
    with pytest.raises(SystemExit, match=said):
        one_process.train(compose(["tiny"], settings), 1)
    monkeypatch.setattr(prove, "up", lambda *_, **__: pytest.fail("a run was started"))
    with pytest.raises(ConfigError, match=f"prove on-policy compares with a plain loop in one process: .*{said}"):
        prove.on_policy(3, 1, 1, ["tiny"], settings, tmp_path)
