"""Live controls: what an operator may turn while a run goes on, and how the desk and the learner read it."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from .config import Config, Overflow, refuse_below_lag, refuse_shallow
from .errors import ConfigError
from .limits import MOST_COUNTED

_VERSIONS: Any = Literal["auto"] | Annotated[int, BeforeValidator(int), Field(ge=0, le=MOST_COUNTED)]
_NATS: Any = Literal["stage"] | Annotated[float, BeforeValidator(float), Field(ge=0, le=MOST_COUNTED)]
_RATE: Any = Literal["stage"] | Annotated[float, BeforeValidator(float), Field(gt=0, le=1)]
_DEPTH: Any = Literal["auto"] | Annotated[int, BeforeValidator(int), Field(ge=1, le=MOST_COUNTED)]
_SWITCH: Any = Annotated[Literal["0", "1"], AfterValidator(int)]

CONTROLS: dict[str, tuple[Callable[[str], int | float | str], str]] = {
    "max_staleness": (
        TypeAdapter(_VERSIONS).validate_python,
        f"auto, or a whole number of versions, 0 or more, at most {MOST_COUNTED}",
    ),
    "overflow": (TypeAdapter(Overflow).validate_python, f"one of {', '.join(get_args(Overflow))}"),
    "pipeline_depth": (
        TypeAdapter(_DEPTH).validate_python,
        f"auto, or how many groups may be live, at least 1 and at most {MOST_COUNTED}",
    ),
    "target_entropy": (TypeAdapter(_NATS).validate_python, "nats a token, 0 or more; or stage, for each stage's own"),
    "learning_rate": (TypeAdapter(_RATE).validate_python, "more than 0, at most 1; or stage, for each stage's own"),
    "paused": (TypeAdapter(_SWITCH).validate_python, "0 or 1"),
}
"""How the text of each control is read, and what would be right, by its key in Redis."""
AT_A_STEP = ("target_entropy", "learning_rate")
"""The controls that say how a training step trains. The others say what is issued and taken."""


def name_of(key: str) -> str:
    """A control's name for people, as the command line takes it."""
    return key.replace("_", "-")


def key_of(name: str) -> str:
    """The key of a control in Redis, by its name on the command line."""
    return name.replace("-", "_")


def read_control(key: str, text: str) -> Any:
    """The value of control ``key`` in ``text``. ``ConfigError`` if there is no such control, or the value is wrong."""
    name = name_of(key)
    if key not in CONTROLS:
        known = ", ".join(map(name_of, CONTROLS))
        raise ConfigError(f"no live control {name[:64]!r}; there are {known}")
    read, right = CONTROLS[key]
    try:
        return read(text)
    except ValueError:
        raise ConfigError(f"{name} = {text[:64]!r}: {right}") from None


def refuse_forbidden(key: str, value: Any, config: Config) -> None:
    """``ConfigError`` if the run's configuration forbids this value of a control."""
    if key == "max_staleness":
        if value != 0 and config.flow.strictly_on_policy:
            raise ConfigError(f"max-staleness = {value}: the run was started with flow.strictly_on_policy = true")
        refuse_below_lag(value, config.flow)
    if key == "pipeline_depth":
        for view in config.views():
            refuse_shallow(view.train.groups_per_step, value)


def taken_up(found: dict[bytes, bytes], config: Config) -> tuple[dict[str, Any], list[tuple[bytes, bytes, str]]]:
    """Read the hash of controls. Returns (values by key, refused entries as field, value, reason). Whoever may write
    the hash may have written anything."""
    values: dict[str, Any] = {}
    refused = []
    for field, text in found.items():
        try:
            key = field.decode()
            values[key] = read_control(key, text.decode())
            refuse_forbidden(key, values[key], config)
        except UnicodeDecodeError:
            refused.append((field, text, f"{field[:64]!r} = {text[:64]!r} is not text"))
        except ConfigError as error:
            values.pop(key, None)
            refused.append((field, text, str(error)))
    return values, refused
