"""Configurations compose, and every mistake is named."""

import pytest
from leeway_rl.common.config import compose, dump, parse, preset_names, schema
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
        ("nonsense", "write section.key=value"),
        ("weights.transport=file", "needs weights.folder"),
        ("train.micro_batch_tokens=10", r"32 \+ train.max_response_tokens"),
        ("train.ranks=1000", "more than the 16 x 8 responses"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(setting, message):
    with pytest.raises(ConfigError, match=message):
        compose(["tiny"], [setting])


def test_a_wrong_value_in_a_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[train]\n# a comment\nsteps = 0\n[model]\npath = "x"\n')
    with pytest.raises(ConfigError, match=r"mine.toml:3: train.steps = 0"):
        compose(["tiny", str(path)], [])


def test_a_missing_preset_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"shipped presets: .*tiny"):
        compose(["huge"], [])


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


def test_every_key_says_what_it_means():
    assert [row[0] for row in schema() if not row[3]] == []
