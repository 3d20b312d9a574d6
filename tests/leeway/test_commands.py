"""What the commands share: options that come from one definition."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
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
    app = typer.Typer()

    @app.command()
    @spread
    def show(*, name: str, pair: Pair, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        """Say what was given."""
        typer.echo(f"{name} {pair} {as_json}")

    assert CliRunner().invoke(app, words.split()).output == said + "\n"
    refused = CliRunner().invoke(app, ["x", "--left", "0"])
    assert refused.exit_code == 2
    assert "--left" in refused.output
