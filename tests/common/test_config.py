"""Configurations compose, and every mistake is named."""

import pytest
from leeway_rl.common.config import Config, compose, config_in, dump, parse, preset_names, section_of, toml_in
from leeway_rl.common.config.stages import STAGED, Stage
from leeway_rl.common.errors import ConfigError


@pytest.mark.parametrize("name", preset_names())
def test_every_shipped_preset_parses_and_survives_its_own_dump(name):
    config = compose([name], [])
    assert parse(dump(config)) == config


def test_later_presets_and_settings_win(tmp_path):
    over = tmp_path / "over.toml"
    over.write_text("[flow]\nmax_staleness = 4\n[train]\nsteps = 7\n")
    config = compose(["tiny", str(over)], ["train.steps=9"])
    assert (config.flow.max_staleness, config.train.steps, config.train.group_size) == (4, 9, 8)


def test_another_loss_by_set_leaves_the_digest_and_options_of_the_one_before_behind(tmp_path):
    run = tmp_path / "config.toml"
    own = ["objective.loss=mine.py:f", "objective.loss_digest=abc", "objective.loss_options.low=0.1"]
    run.write_text(dump(compose(["tiny"], own)))
    assert compose([str(run)], ["objective.loss=magic"]).objective == compose(["tiny"], []).objective
    other = compose([str(run)], ["objective.loss_options.high=0.3", "objective.loss=other.py:f"]).objective
    assert (other.loss_digest, other.loss_options) == (None, {"high": 0.3})
    same = compose([str(run)], ["objective.loss_options.high=0.3"]).objective
    assert (same.loss_digest, same.loss_options) == ("abc", {"low": 0.1, "high": 0.3})


def test_an_unknown_key_is_refused_with_file_line_and_suggestion(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[flow]\nmax_stalenes = 4\n")
    with pytest.raises(ConfigError, match=r"mine.toml:2: unknown key 'flow.max_stalenes'; did you mean 'flow.max_st"):
        compose(["tiny", str(path)], [])


def test_a_key_in_the_wrong_section_suggests_the_right_one():
    with pytest.raises(ConfigError, match=r"did you mean 'flow.max_staleness'"):
        compose(["tiny"], ["train.max_staleness=1"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("flow.max_staleness=-1", "flow.max_staleness = -1: .* greater than or equal to 0"),
        ("model.dtype=fp8", "model.dtype = 'fp8': .* 'float32' or 'bfloat16'"),
        ("train.steps=many", "train.steps = 'many'"),
        ("train.learning_rate=inf", "train.learning_rate = inf: .* finite"),
        ("train.betas=[0.9,1.0]", r"train.betas.1 = 1.0: .* less than 1"),
        ("train.betas=[-1,0.9]", r"train.betas.0 = -1: .* greater than or equal to 0"),
        ("train.group_size=65537", "train.group_size = 65537: .* less than or equal to 65536"),
        ("train.groups_per_step=99999999999", "train.groups_per_step = 99999999999: .* less than or equal to"),
        ("train.threads=99999", "train.threads = 99999: .* less than or equal to 4096"),
        ("rollout.workers=99999", "rollout.workers = 99999: .* less than or equal to 65536"),
        ("verifier.workers=99999", "verifier.workers = 99999: .* less than or equal to 65536"),
        ("broker.metrics_host=''", "broker.metrics_host = '': .* at least 1 character"),
        ("broker.retry_s=1e12", r"broker.retry_s = .* less than or equal to 1000000"),
        ("broker.generation_s=1e12", r"broker.generation_s = .* less than or equal to 1000000"),
        ("verifier.timeout_s=1e12", r"verifier.timeout_s = .* less than or equal to 86400"),
        ("verifier.memory_bytes=99999999999999999999999", "verifier.memory_bytes = .* less than or equal to"),
        ("verifier.jobs=99999999", "verifier.jobs = 99999999: .* less than or equal to 65536"),
        ("flow.temperature=0.005", "flow.temperature = 0.005: .* greater than or equal to 0.01"),
        ("flow.ess_price=nan", "flow.ess_price = nan: "),
        ("nonsense", "write section.key=value"),
        ("weights.transport=file", "needs weights.folder"),
        ("train.micro_batch_tokens=10", r"32 \+ train.max_response_tokens"),
        ("train.ranks=1000", "more than the 16 x 8 responses"),
        ("flow.strictly_on_policy=true", "strictly_on_policy = true with flow.max_staleness = 1"),
        ("flow.max_staleness=often", "flow.max_staleness = 'often'"),
        (
            "flow.pipeline_depth=15",
            "15 is below train.groups_per_step = 16: .* 16 live groups, 1 more than may be live",
        ),
        ("flow.inject_lag=2", "max_staleness = 1 with flow.inject_lag = 2: .* at least 2 is right"),
        ("flow.pipeline_depth=0", "flow.pipeline_depth = 0: .* greater than or equal to 1"),
        ("flow.pipeline_depth=deep", "flow.pipeline_depth = 'deep': .* integer.* or .* 'auto'"),
        ("stages=3", "expected a list of tables"),
        ("stages=[{from_step=3,group_sise=4}]", r"unknown key 'stages.0.group_sise'; did you mean 'stages.group_size'"),
        ("stages=[{from_step=9},{from_step=9}]", r"stages.1.from_step = 9: stage 2 begins after stage 1, .* at step 9"),
        ("stages=[{from_step=3,minibatch_groups=5}]", r"stage 1 \(stages.0, from step 3\): .* 16 = 3 x 5 \+ 1"),
        ("stages=[{from_step=3,max_response_tokens=50000}]", r"stage 1 .* 32 \+ train.max_response_tokens 50000"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(setting, message):
    with pytest.raises(ConfigError, match=message):
        compose(["tiny"], [setting])


def test_a_depth_that_cannot_hold_a_later_stages_batch_is_refused():
    with pytest.raises(ConfigError, match=r"stage 1 .* flow.pipeline_depth = 20 is below train.groups_per_step = 32"):
        compose(["tiny"], ["flow.pipeline_depth=20", "stages=[{from_step=3,groups_per_step=32}]"])


def test_strictly_on_policy_refuses_a_second_update_with_the_arithmetic():
    strict = ["flow.strictly_on_policy=true", "flow.max_staleness=0"]
    assert compose(["tiny"], strict).flow.strictly_on_policy
    with pytest.raises(ConfigError, match=r"groups_per_step 16 / train.minibatch_groups 4 x train.reuse 1 = 4 updates"):
        compose(["tiny"], [*strict, "train.minibatch_groups=4"])


STAGES = "stages=[{from_step=3,group_size=4},{from_step=5,max_response_tokens=32,temperature=0.7}]"


def test_a_stage_keeps_what_it_does_not_change():
    config = compose(["tiny"], [STAGES])
    assert [config.stage_of(step) for step in (0, 2, 3, 4, 5, 99)] == [0, 0, 1, 1, 2, 2]
    views = [(v.train.group_size, v.train.max_response_tokens, v.flow.temperature) for v in config.views()]
    assert views == [(8, 64, 1.0), (4, 64, 1.0), (4, 32, 0.7)]
    assert config.longest_response == 64
    assert parse(dump(config)) == config


def test_a_stage_changes_the_objective_and_the_entropy_s_control_as_well():
    change = 'clip_low=0.1,clip_high=0.28,dual_clip=3.0,advantage_mask="after",kl_beta=0.001,kl_groups="all"'
    change += ',reference="x/y",learning_rate=1e-5,entropy_control="constant",entropy_alpha=0.002,entropy_target=0.3'
    config = compose(["tiny"], [f"stages=[{{from_step=3,{change}}},{{from_step=5,kl_beta=0.0,kl_groups='signal'}}]"])
    first, second, third = config.views()
    assert first.model_copy(update={"stages": ()}) == compose(["tiny"], [])
    objective = second.objective
    assert (objective.clip_low, objective.clip_high, objective.dual_clip) == (0.1, 0.28, 3.0)
    assert (objective.advantage_mask, objective.kl_beta, objective.kl_groups) == ("after", 0.001, "all")
    assert (second.train.learning_rate, second.reference, config.references) == (1e-5, "x/y", ("x/y",))
    assert second.entropy == third.entropy
    assert (second.entropy.control, second.entropy.alpha, second.entropy.target) == ("constant", 0.002, 0.3)
    assert (third.objective.kl_beta, third.objective.clip_high) == (0.0, 0.28)
    assert parse(dump(config)) == config


@pytest.mark.parametrize(("section", "key", "own"), [(s, k, o) for s, keys in STAGED.items() for k, o in keys.items()])
def test_a_key_of_a_stage_has_the_bounds_of_its_section(section, key, own):
    theirs = section_of(Config.model_fields[section].annotation).model_fields[own]
    ours = Stage.model_fields[key]
    assert ours.metadata == theirs.metadata
    assert ours.annotation == (theirs.annotation | None if theirs.annotation is not str else str | None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("kl_beta=-1", r"stages\.0\.kl_beta = -1: Input should be greater than or equal to 0"),
        ("clip_low=1.5", r"stages\.0\.clip_low = 1.5"),
        ('advantage_mask="all"', r"stages\.0\.advantage_mask = 'all'"),
        ("beta=1e-3", r"unknown key 'stages\.0\.beta'"),
        ('kl_groups="all"', r"stage 1 \(stages\.0, from step 3\): objective\.kl_groups = 'all' with .*kl_beta = 0"),
        ('entropy_control="constant"', r"stage 1 .*: entropy\.control = 'constant' with entropy\.alpha = 0"),
        ("dual_clip=1.1", r"stage 1 .*: objective\.dual_clip = 1.1 with objective\.clip_high = 0.2"),
    ],
)
def test_a_wrong_value_of_a_stage_names_the_stage_and_the_key(change, words):
    with pytest.raises(ConfigError, match=words):
        compose(["tiny"], [f"stages=[{{from_step=3,{change}}}]"])


def test_a_wrong_value_in_a_stage_of_a_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[train]\nsteps = 9\n[[stages]]\nfrom_step = 3\n[[stages]]\nfrom_step = 4\ngroup_size = 1\n")
    with pytest.raises(ConfigError, match=r"mine.toml:7: stages.1.group_size = 1"):
        compose(["tiny", str(path)], [])


def test_a_wrong_value_in_a_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[train]\n# a comment\nsteps = 0\n[model]\npath = "x"\n')
    with pytest.raises(ConfigError, match=r"mine.toml:3: train.steps = 0"):
        compose(["tiny", str(path)], [])


def test_a_missing_preset_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"shipped presets: .*tiny[^?]*$"):
        compose(["huge"], [])
    with pytest.raises(ConfigError, match=r"shipped presets: .*; did you mean 'tiny'\?"):
        compose(["tyni"], [])


def test_the_folder_of_a_task_is_told_from_its_preset(tmp_path):
    (tmp_path / "preset.toml").touch()
    with pytest.raises(ConfigError, match=rf"it is a folder; name the file in it: {tmp_path}/preset.toml"):
        compose([str(tmp_path)], [])


def test_broken_toml_names_the_file(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[flow\n")
    with pytest.raises(ConfigError, match=r"broken.toml: not TOML"):
        compose([str(path)], [])


def test_a_required_key_is_asked_for(tmp_path):
    path = tmp_path / "bare.toml"
    path.write_text('[model]\npath = "x"\n')
    with pytest.raises(ConfigError, match=r"data is required|train is required"):
        compose([str(path)], [])


def test_a_guard_and_an_injected_lag_are_refused_together():
    with pytest.raises(ConfigError, match=r"least_ess = 0\.5 with flow\.inject_lag = 1: the guard would turn"):
        compose(["tiny"], ["flow.inject_lag=1", "flow.least_ess=0.5"])


LATIN = "# Entropie, é\n[train]\nsteps = 3\n".encode("latin-1")


def test_a_preset_that_is_not_utf_8_is_named_with_its_line_and_a_mark_before_it_is_none_of_it(tmp_path):
    preset = tmp_path / "p.toml"
    preset.write_bytes(b"\n" + LATIN)
    with pytest.raises(ConfigError, match=r"p\.toml:2: not UTF-8 \(the byte 0xe9\), .* save the file as UTF-8"):
        compose(["tiny", str(preset)], [])
    with pytest.raises(ConfigError, match=r"p\.toml:2: not UTF-8"):
        config_in(preset)
    preset.write_bytes(LATIN.decode("latin-1").encode("utf-8-sig"))
    assert compose(["tiny", str(preset)], []).train.steps == 3
    assert toml_in(preset) == {"train": {"steps": 3}}
