"""The options that several commands share, and how a command takes many at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ...common import address
from ...common.files import path_of


def given_path(text: str) -> Path:
    """A path as somebody gave it to an option."""
    if not text:
        raise typer.BadParameter("an empty text is no path; the folder that you stand in is .")
    return path_of(text)


def path_option(*names: str, help: str) -> Any:
    """An option that is a path; a leading ``~`` is the user's home. An empty one, out of a variable that is not set, is
    refused: it would be the folder that somebody stands in."""
    return typer.Option(*names, help=help, parser=given_path, metavar="PATH")


def path_argument(metavar: str, help: str) -> Any:
    """An argument that is a path, as ``path_option`` reads it."""
    return typer.Argument(help=help, parser=given_path, metavar=metavar)


Presets = Annotated[
    list[str] | None,
    typer.Option("--preset", help="Preset name or .toml file; give several to compose them, later ones win."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="section.key=value, after the presets. A text stands as it is, or in TOML's quotes: "
        "'data.suffix=\"\\nSo?\"'. Keys: leeway config.",
    ),
]
RunId = Annotated[str, typer.Option("--run", help="The run's id.")]
AnyRun = Annotated[str | None, typer.Option("--run", help="The run's id; the newest under --runs-dir by default.")]
RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", envvar=address.VARIABLE, show_envvar=False, help=address.HELP),
]
RunsDir = Annotated[Path, path_option("--runs-dir", help="Where runs/ID/ folders are.")]
RUNS = Path("runs")
AsJson = Annotated[bool, typer.Option("--json", help="For machines.")]


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take records: a parameter that is a dataclass is an option for each of its fields, in their order
    and with their defaults. So many options are defined once, and several commands can share them."""
    hints = get_type_hints(command, include_extras=True)
    records: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    shown: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if parameter.name in records:
            shown += _parameters(records[parameter.name])
        else:
            shown.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[parameter.name]))

    @wraps(command)
    def taken(**given: Any) -> None:
        made = {
            name: kind(**{each.name: given.pop(each.name) for each in fields(kind)}) for name, kind in records.items()
        }
        command(**made, **given)

    taken.__signature__ = Signature(shown)  # type: ignore[attr-defined]
    taken.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return taken


def _parameters(kind: Any) -> list[Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        Parameter(
            each.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if each.default is MISSING else each.default,
            annotation=hints[each.name],
        )
        for each in fields(kind)
    ]
