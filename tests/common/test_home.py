"""A leading ``~`` is the user's home wherever a path is given, also where no shell fills it in."""

import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer
from leeway_rl.common import address
from leeway_rl.common.config import compose, expand
from leeway_rl.common.errors import DataError
from leeway_rl.common.files import path_of
from leeway_rl.data.reading import files_of
from leeway_rl.evaluation.prepare import asked, rows_of
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.commands.options import given_path
from leeway_rl.leeway.evaluating.sampling import dtype_of
from leeway_rl.leeway.running.preflight import refuse_missing_model, refuse_missing_rows

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_paths_of_the_configuration_are_found_there(home):
    assert (expand("~/m"), expand("{presets}/~x")[-2:], expand("a/~/b")) == (str(home / "m"), "~x", "a/~/b")
    config = compose(["tiny"], ["model.path=~/model", "data.path=~/rows.jsonl", "weights.folder=~/shared"])
    assert config.weights.shared == home / "shared"
    with pytest.raises(DataError, match=re.escape(str(home / "model"))):
        refuse_missing_model(config.model.path)
    (home / "model").mkdir()
    (home / "model/config.json").write_text('{"dtype": "float32"}')
    assert dtype_of("~/model") == "float32"
    with pytest.raises(DataError, match=re.escape(str(home / "rows.jsonl"))):
        refuse_missing_rows(config)
    (home / "rows.jsonl").touch()
    refuse_missing_rows(config)
    refuse_missing_model(config.model.path)


def test_a_preset_a_source_a_benchmark_and_a_redis_url_are_found_there(home):
    (home / "mine.toml").write_text("[train]\nsteps = 3\n")
    assert compose(["tiny", "~/mine.toml"], []).train.steps == 3
    (home / "rows.jsonl").write_text('{"prompt": "p", "answer": "1"}\n')
    assert files_of("~/*.jsonl", Path("elsewhere")) == [home / "rows.jsonl"]
    for words in ("~/rows.jsonl", "mine=~/rows.jsonl", "aime24=~/rows.jsonl"):
        assert [where for where, _ in rows_of(asked(words), None, 0, 0)] == [f"{home / 'rows.jsonl'}:1"]
    (home / "url").write_text("redis://there\n")
    assert address.resolve("@~/url") == "redis://there"


def _commands(group: typer.Typer):
    for command in group.registered_commands:
        yield command.callback
    for each in group.registered_groups:
        yield from _commands(each.typer_instance)


def test_every_path_of_every_command_is_read_so():
    seen = 0
    for callback in _commands(app):
        for name, hint in get_type_hints(callback, include_extras=True).items():
            kind, *said = get_args(hint) or (hint,)
            if Path in (kind, *get_args(kind)):
                assert said[0].parser is given_path, (callback.__name__, name)
                seen += 1
    assert seen > 20
    wings = [
        file
        for wing in ("data", "evaluation", "learner", "rollout", "verifier", "studies")
        for file in (ROOT / wing).rglob("*.py")
    ]
    assert [str(file) for file in wings if "type=Path" in file.read_text()] == []
    assert path_of("~nobody-of-this-name/x") == Path("~nobody-of-this-name/x")
