"""The options that several commands share, and how a command takes many at once."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from ...common import address
from ...common.errors import ConfigError
from ...common.files import path_of
from ..finding import Place, find, find_live, place


def given_path(text: str) -> Path:
    """The path that somebody gave to an option. An empty text is refused."""
    if not text:
        raise typer.BadParameter("an empty text is no path; the folder that you stand in is .")
    return path_of(text)


def path_option(*names: str, help: str) -> Any:
    """An option that is a path; a leading ``~`` is the user's home. An empty text is refused: it comes from a shell
    variable that is not set, and would mean the current folder."""
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
RedisUrl = Annotated[
    str | None,
    typer.Option("--redis-url", envvar=address.VARIABLE, show_envvar=False, help=address.HELP),
]
RunsRedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar=address.VARIABLE,
        show_envvar=False,
        help=f"{address.HELP} Without both, what leeway up has noted on this machine in the run's folder.",
    ),
]
"""Of a run that is at work: leeway up keeps the address of its Redis in the run's folder."""
RunsDir = Annotated[Path, path_option("--runs-dir", help="Where runs/ID/ folders are.")]
RUNS = Path("runs")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@dataclass(frozen=True, kw_only=True)
class NamedRun:
    """A run that must be named, either as a bare word or after --run; both mean the same."""

    word: Annotated[str | None, typer.Argument(metavar="RUN", help="The run: its id, or the path of its folder.")] = (
        None
    )
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="The same.")] = None
    runs_dir: RunsDir = RUNS

    @property
    def said(self) -> str | None:
        """The run as it was named, or None. ``ConfigError`` where two different runs were named."""
        if None not in (self.word, self.run) and self.word != self.run:
            raise ConfigError(f"two runs are named, {self.word!r} and --run {self.run!r}: name one")
        return self.word if self.run is None else self.run

    @property
    def name(self) -> str:
        """The run as it was named; ``ConfigError`` where none was."""
        if self.said is None:
            raise ConfigError("no run is named: give its id, or the path of its folder, as a word or after --run")
        return self.said

    def place(self) -> Place:
        """Where the run is, or would be."""
        return place(self.name, self.runs_dir)

    def find(self) -> Place:
        """Where it is; ``DataError`` where it is not."""
        return find(self.name, self.runs_dir)


@dataclass(frozen=True, kw_only=True)
class AnyRun(NamedRun):
    """A run; the newest one where none is named."""

    word: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="The run: its id, or the path of its folder; the newest by default."),
    ] = None

    def find(self) -> Place:
        """Where it is; ``DataError`` where it is not."""
        return find(self.said, self.runs_dir)


@dataclass(frozen=True, kw_only=True)
class LiveRun(AnyRun):
    """A run that is at work, here or elsewhere; the newest one where none is named."""

    redis_url: RunsRedisUrl = None

    def live(self) -> tuple[str, str]:
        """(the address of the run's Redis, the run's id). ``BrokerError`` where a server of the run's own has left."""
        from ..looking.status import refuse_without_server

        url, found = find_live(self.said, self.redis_url, self.runs_dir)
        if self.redis_url is None:
            refuse_without_server(found.folder, url)
        return url, found.run


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take records: a parameter that is a dataclass becomes one option for each of its fields, in their
    order and with their defaults. So options are defined once, and several commands can share them."""
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
