"""A value that an option cannot have is refused by its name: none is taken for the default in silence."""

import pytest
import typer
from leeway_rl.common.errors import ConfigError
from leeway_rl.leeway.cli import app
from typer.testing import CliRunner

SAMPLE = ["sample", "p.jsonl", "--model", "m", "--out", "o"]
EVAL = ["eval", "run", "p.jsonl", "--model", "m", "--out", "o"]


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ([*EVAL, "--responses", "0"], "--responses"),
        ([*EVAL, "--responses", "-4"], "--responses"),
        ([*EVAL, "--responses", "1000000000"], "--responses"),
        ([*EVAL, "--size", "0"], "--size"),
        (["eval", "follow", "r", "p.jsonl", "--every", "0"], "--every"),
        ([*SAMPLE, "--responses", "0"], "--responses"),
        ([*SAMPLE, "--top-p", "0"], "--top-p"),
        ([*SAMPLE, "--top-p", "nan"], "--top-p"),
        ([*SAMPLE, "--workers", "-1"], "--workers"),
        (["sample", "", "--model", "m", "--out", "o"], "PROBLEMS"),
        (["sample", "p.jsonl", "--model", "m", "--out", ""], "--out"),
        (["verify", "a", "--out", "b", "--jobs", "0"], "--jobs"),
        (["verify", "a", "--out", "b", "--timeout-s", "0"], "--timeout-s"),
        (["sweep", "--preset", "tiny", "--grid", "flow.max_staleness=0,1", "--seeds", "0"], "--seeds"),
        (["study", "--all", "--steps", "0"], "--steps"),
        (["study", "--all", "--jobs", "0"], "--jobs"),
        (["plan", "--replicas", "0"], "--replicas"),
    ],
)
def test_an_option_out_of_its_bounds_is_named(words, option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 2, done.output
    assert f"Invalid value for '{option}'" in done.output
    assert not list(tmp_path.iterdir())


def test_an_unknown_control_is_named_before_a_run_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no live control 'staleness'; there are max-staleness, "):
        CliRunner().invoke(app, ["set", "staleness", "2"], catch_exceptions=False)


def _is_whole(parameter):
    return getattr(getattr(parameter, "type_descriptor", None), "annotation", None) in (int, int | None)


def every_command(group, before=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def test_every_whole_number_of_every_command_has_its_least():
    """An option without one takes 0 and -1, and whoever reads it may take those for nothing said."""
    free = {
        ("eval run", "step"),
        ("export", "step"),
    }  # a checkpoint's: looked up by it, and named where it is not there
    commands = every_command(typer.main.get_command(app))
    whole = [(name, each) for name, command in commands for each in command.params if _is_whole(each)]
    assert len(whole) > 30
    found = {(name, each.name) for name, each in whole if each.min is None}
    assert found <= free, found - free


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("studies", ["--seeds", ""]),
        ("studies", ["--seeds", "1,one"]),
        ("data", ["run", "r.toml", "--out", "o", "--jobs", "0"]),
        ("data", ["show", "stage", "--rows", "0"]),
    ],
)
def test_a_command_behind_the_desk_refuses_what_it_cannot_use(module, words, monkeypatch, capsys):
    from importlib import import_module

    monkeypatch.setattr("sys.argv", [module, *words])
    with pytest.raises(SystemExit) as left:
        import_module(f"leeway_rl.{module}.__main__").main()
    assert left.value.code == 2
    assert f"argument {words[-2]}: " in capsys.readouterr().err
