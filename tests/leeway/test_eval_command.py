"""``leeway eval`` has four commands, and the spelling of before still reaches them."""

import pytest
from leeway_rl.leeway.cli import app
from leeway_rl.leeway.commands.evaluate import as_now
from typer.testing import CliRunner


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ("aime24 --model m --out o", "run aime24 --model m --out o"),
        ("--model m --out o aime24", "run --model m --out o aime24"),
        ("aime24 --follow my-run --every 20", "follow my-run aime24 --every 20"),
        ("--follow=my-run aime24", "follow my-run aime24"),
        ("--regrade my-eval --anew", "regrade my-eval --anew"),
        ("--set verifier.math=report --regrade=my-eval", "regrade my-eval --set verifier.math=report"),
    ],
)
def test_the_spelling_of_before_is_read_as_it_is_spelled_now(before, now):
    assert as_now(before.split()) == now.split()


def test_the_spelling_of_before_answers_with_a_hint(tmp_path):
    done = CliRunner().invoke(app, ["eval", "--regrade", str(tmp_path)])
    assert f"leeway eval: this is now spelled  leeway eval regrade {tmp_path}" in done.stderr
    said = CliRunner().invoke(app, ["eval", "regrade", str(tmp_path)])
    assert "spelled" not in said.stderr
    assert done.exit_code == said.exit_code == 3, "both find no responses in the folder"


def test_help_names_the_four_commands():
    said = CliRunner().invoke(app, ["eval", "--help"]).output
    assert all(f"│ {command} " in said for command in ("run", "follow", "compare", "regrade"))
