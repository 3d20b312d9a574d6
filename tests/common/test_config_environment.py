"""``[environment]`` in presets: what is read, where it points, and what is refused in which line."""

import json

import pytest
from leeway_rl.common.config import Data, compose, dump, parse
from leeway_rl.common.errors import ConfigError, DataError
from leeway_rl.common.prompts import row_of


def test_there_is_none_by_default_and_none_is_stored():
    config = compose(["tiny"], [])
    assert config.environment is None
    assert "environment" not in dump(config)
    assert parse(dump(config)) == config


def test_a_file_is_relative_to_the_preset_that_names_it(preset, tmp_path):
    text = '[environment]\nuse = "environment.py:Guess"\noptions = { most = 9 }\n'
    config = compose(["tiny", preset(text)], ["environment.max_turns=3"])
    assert config.environment.use == f"{tmp_path}/task/environment.py:Guess"
    assert (config.environment.max_turns, config.environment.options) == (3, {"most": 9})
    assert parse(dump(config)) == config


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('[environment]\nuse = "a"\nmax_turn = 1\n', r"preset\.toml:3: unknown key 'environment\.max_turn'.*max_turns"),
        ("[environment]\nmax_turns = 1\n", r"environment\.use is required"),
        ('[environment]\nuse = "a"\nmax_turns = 0\n', r"preset\.toml:3: environment\.max_turns = 0"),
        ('[environment]\nuse = "a"\nrole = "system"\n', r"environment\.role = 'system'.*'tool' or 'user'"),
        ('[environment]\nuse = "environment.py:"\n', r"no class after the colon"),
        ('[environment]\nuse = "a"\noptions = { api_key = "sk-1" }\n', r"environment\.options\.api_key holds a secret"),
        (
            '[[rewards]]\nuse = "environment"\n',
            r"takes what the environment gave, and there is none",
        ),
        ('environment = "calculator"\n', r"environment = 'calculator': expected a table"),
        ('[[environment]]\nuse = "calculator"\n', r"expected a table"),
    ],
)
def test_what_cannot_stand_is_refused(preset, text, wrong):
    with pytest.raises(ConfigError, match=wrong):
        compose(["tiny", preset(text)], [])


def test_a_row_keeps_its_columns_where_an_environment_asks_for_them():
    values, data = {"prompt": "2+3", "answer": "5", "told": "x" * 300}, Data(path="")
    assert row_of(values, "p:1", "rows.jsonl:7", data).columns == ""
    found = row_of(values, "p:1", "rows.jsonl:7", data, whole=True)
    assert json.loads(found.columns) == values
    with pytest.raises(DataError, match=r"rows.jsonl:7: column 'told'.*max_row_bytes"):
        row_of(values, "p:1", "rows.jsonl:7", Data(path="", max_row_bytes=256), whole=True)
