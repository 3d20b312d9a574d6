"""What the commands share: options that come from one definition."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer
from leeway_rl import __version__
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.commands.options import spread
from typer.testing import CliRunner


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two options."""

    left: Annotated[int, typer.Option("--left", min=1)] = 1
    right: Annotated[str | None, typer.Option("--right")] = None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("x", "x Pair(left=1, right=None) False"),
        ("x --left 3 --right y --json", "x Pair(left=3, right='y') True"),
    ],
)
def test_a_record_is_taken_as_an_option_for_each_of_its_fields(words, said):
    pairs = typer.Typer()

    @pairs.command()
    @spread
    def show(*, name: str, pair: Pair, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """Say what was given."""
        typer.echo(f"{name} {pair} {as_json}")

    assert CliRunner().invoke(pairs, words.split()).output == said + "\n"
    refused = CliRunner().invoke(pairs, ["x", "--left", "0"])
    assert refused.exit_code == 2
    assert "--left" in refused.output


def leeway(*words, **environment):
    """The command line in a process of its own."""
    line = [sys.executable, "-m", "leeway_rl.leeway.cli", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=os.environ | environment)
    return done.returncode, done.stdout, done.stderr


def test_the_version_is_that_of_the_package():
    assert leeway("--version") == (0, f"leeway {__version__}\n", "")


def test_an_unknown_command_is_told_with_its_neighbour():
    code, _, said = leeway("statsu")
    assert (code, "Did you mean 'status'" in said) == (2, True), said


def test_a_negative_value_is_taken_as_a_value():
    code, _, said = leeway("set", "max-staleness", "-1")
    assert (code, said.startswith("leeway: max-staleness = '-1': ")) == (2, True), said


def every(command):
    """A command, and those below it."""
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from every(below)


def test_only_the_terminal_breaks_a_paragraph_of_a_help():
    commands = [*every(typer.main.get_command(app))]
    assert len(commands) > 30
    for command in commands:
        assert all("\n" not in part for part in (command.help or "").split("\n\n")), command.name


COMPLETE = """
source "$HOME/.bash_completions/leeway.sh"
COMP_WORDS=(leeway {words}); COMP_CWORD={at}
_leeway_completion leeway
printf '%s\n' "${{COMPREPLY[@]}}"
"""


def test_the_shell_completes_commands_and_options_once_it_is_installed(tmp_path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": path,
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }

    def run(*words):
        return subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout.split()

    run("leeway", "--install-completion", "bash")
    assert "leeway.sh" in (tmp_path / ".bashrc").read_text()
    assert run("bash", "-c", COMPLETE.format(words="dead-", at=1)) == ["dead-letters"]
    assert sorted(run("bash", "-c", COMPLETE.format(words="up --re", at=2))) == ["--redis-url", "--resume"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("samples here", "leeway: runs/here/samples.jsonl: Is a directory"),
        ("report here", "leeway: runs/here/report.png: Is a directory"),
        (f"audit {'x' * 300}", f"leeway: runs/{'x' * 300}/config.toml: File name too long"),
    ],
)
def test_a_path_that_the_system_refuses_is_named_in_one_line(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs/here"
    (folder / "samples.jsonl").mkdir(parents=True)
    (folder / "report.png").mkdir()
    (folder / "config.toml").touch()
    line = {"step": 0, "reward/mean": 0.5, "batch/groups": 1, "batch/tokens": 9, "time/step_s": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    assert leeway(*words.split()) == (3, "", f"{said}\n")


@pytest.mark.parametrize("words", ["--timeout-s inf", "--timeout-s 1e308", "--timeout-s nan", "--jobs 999999999999"])
def test_a_number_that_no_grading_can_have_is_refused_as_an_option(words, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"response": "1", "answer": "1"}\n')
    code, _, said = leeway("verify", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out"), *words.split())
    assert (code, words.split()[0] in said, "Traceback" in said) == (2, True, False), said
