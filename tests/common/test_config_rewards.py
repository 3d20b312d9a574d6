"""``[[rewards]]`` in presets: what is read, where it points, and what is refused in which line."""

import pytest
from leeway_rl.common.config import compose, dump, parse
from leeway_rl.common.errors import ConfigError


def rewards_of(path, *settings):
    return compose(["tiny", path], list(settings)).rewards


def test_a_file_is_relative_to_the_preset_that_names_it(preset, tmp_path):
    (reward,) = rewards_of(preset('[[rewards]]\nuse = "reward.py:f"\n'))
    assert reward.use == f"{tmp_path}/task/reward.py:f"
    assert reward.called == "f"
    (absolute,) = rewards_of(preset('[[rewards]]\nuse = "/opt/reward.py:f"\n'))
    assert absolute.use == "/opt/reward.py:f"


def test_here_is_the_folder_of_the_preset(preset, tmp_path):
    config = compose(["tiny", preset('[data]\npath = "{here}/rows.jsonl"\n')], [])
    assert config.data.path == f"{tmp_path}/task/rows.jsonl"


def test_rewards_are_stored_and_read_back(preset):
    config = compose(["tiny", preset('[[rewards]]\nuse = "regex"\nweight = 0.5\noptions = { pattern = "a+" }\n')], [])
    assert parse(dump(config)) == config
    assert parse(dump(config)).rewards[0].options == {"pattern": "a+"}


def test_a_function_alone_may_be_called_reward(preset):
    (alone,) = rewards_of(preset('[[rewards]]\nuse = "reward.py:reward"\n'))
    assert alone.called == "reward"


def test_rewards_may_be_set():
    (reward,) = compose(["tiny"], ['rewards=[{use = "exact", weight = 2}]']).rewards
    assert (reward.use, reward.weight) == ("exact", 2)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            '[[rewards]]\nuse = "exact"\nwieght = 1\n',
            r"preset\.toml:3: unknown key 'rewards\.0\.wieght'.*rewards\.weight",
        ),
        ('[[rewards]]\nuse = "exact"\nweight = "a"\n', r"preset\.toml:3: rewards\.0\.weight = 'a'"),
        ('[rewards]\nuse = "exact"\n', r"expected a list of tables, \[\[rewards\]\]"),
        ('[[rewards]]\nuse = "a.b:f"\n[[rewards]]\nuse = "c.d:f"\n', "a second reward called 'f'"),
        ('[[rewards]]\nuse = "a.b:f"\nname = "reward"\n', "and not 'reward'"),
        (
            '[[rewards]]\nuse = "exact"\n[[rewards]]\nuse = "a.b:reward"\n',
            r"rewards\.1: it would be called 'reward'.*name = ",
        ),
        ('[[rewards]]\nuse = "exact"\n[[rewards]]\nuse = "a.b:é"\n', r"rewards\.1: it would be called 'é'"),
        ('[[rewards]]\nuse = "reward.py:"\n', r"rewards\.0\.use = .*no function after the colon"),
        ('[[rewards]]\nuse = "exact"\ntimeout_s = inf\n', r"preset\.toml:3: rewards\.0\.timeout_s = inf"),
        ('[[rewards]]\nuse = "exact"\ntimeout_s = 1e12\n', r"preset\.toml:3: rewards\.0\.timeout_s = 1"),
        ('[[rewards]]\nuse = "math"\noptions = { x = 1 }\n', "'math' takes none"),
        ('[[rewards]]\nuse = "math"\n[[rewards]]\nuse = "code"\n', "judge different kinds of rows"),
        ('[[rewards]]\nuse = "llm_judge"\noptions = { api_key = "sk-1" }\n', 'write api_key = "env:NAME"'),
        ('verifier = { combine = "product" }\n[[rewards]]\nuse = "exact"\nweight = 0\n', "every reward would be 0"),
    ],
)
def test_what_cannot_stand_is_refused(preset, text, wrong):
    with pytest.raises(ConfigError, match=wrong):
        rewards_of(preset(text))
