"""Composes presets (TOML) from left to right, then sets single keys. The last value of a key wins."""

import tomllib
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import ValidationError

from ..errors import ConfigError
from ..settings import read
from ..wording import guess
from .locating import Layer, refuse_unknown, said_of, where
from .section import PRESETS, expand
from .user_code import code_from, placed
from .whole import Config


def compose(presets: list[str], settings: list[str]) -> Config:
    """The configuration of ``presets`` (names or paths, left to right) and then ``settings`` (``section.key=value``).

    Raises ``ConfigError``, which names source, key, value and what would be right.
    """
    here, merged = Path.cwd(), dict[str, Any]()
    layers = [_preset_layer(name) for name in presets]
    _merge_layers(merged, layers)
    set_here = [Layer(f"--set {text}", "", code_from(read(text), here)) for text in settings]
    _forget_loss(merged, set_here)
    _merge_layers(merged, set_here)
    return _validated(merged, layers + set_here)


def parse(text: str, name: str = "the run's stored configuration") -> Config:
    """The configuration in one TOML text."""
    layer = Layer(name, text, _toml(text, name))
    refuse_unknown(layer, Config, layer.values, ())
    return _validated(layer.values, [layer])


def config_in(path: Path) -> Config:
    """The configuration in a file, as ``parse`` takes it. ``OSError`` where the file cannot be read."""
    return parse(text_in(path), str(path))


def text_in(path: Path) -> str:
    """The text of a TOML file, which is UTF-8; some editors put a byte order mark before it. ``ConfigError`` names the
    line where it is not, ``OSError`` says that the file cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{at}: not UTF-8 (the byte {error.object[error.start]:#04x}), which TOML is; save the file as UTF-8"
        ) from error


def toml_in(path: Path) -> dict[str, Any]:
    """The values in a TOML file, unchecked. ``ConfigError`` where it is none."""
    return _toml(text_in(path), str(path))


def dump(config: Config) -> str:
    """``config`` as TOML with every key spelled out. ``parse`` gives the same configuration back."""
    return tomlkit.dumps(config.model_dump(mode="json", exclude_none=True))


def preset_names() -> list[str]:
    """Names of the presets that this install ships."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def _preset_layer(name: str) -> Layer:
    path = Path(expand(name)) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    try:
        text = text_in(path)
    except OSError as error:
        if (Path(name) / "preset.toml").is_file():
            raise ConfigError(f"preset {name!r}: it is a folder; name the file in it: {name}/preset.toml") from error
        raise ConfigError(
            f"preset {name!r}: cannot read {path} ({error.strerror}); shipped presets: {', '.join(preset_names())}"
            f"{guess(name, preset_names(), cutoff=0.5)}"
        ) from error
    # The folder as it was named and not where the file itself is: a ConfigMap that is mounted into a pod is a folder of
    # links to another one, whose name differs from pod to pod.
    return Layer(str(path), text, placed(_toml(text, str(path)), path.parent.resolve()))


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from error


def _merge_layers(merged: dict[str, Any], layers: list[Layer]) -> None:
    for layer in layers:
        refuse_unknown(layer, Config, layer.values, ())
        _refuse_keys_of_a_list(layer, merged)
        _merge(merged, layer.values)


def _forget_loss(merged: dict[str, Any], set_here: list[Layer]) -> None:
    """Where ``--set`` names another loss than the presets do, drop what they say of theirs alone: its digest and its
    options, which no ``--set`` can take away."""
    before = merged.get("objective")
    named = [layer.values["objective"]["loss"] for layer in set_here if "loss" in layer.values.get("objective", {})]
    if isinstance(before, dict) and named and named[-1] != before.get("loss"):
        before.pop("loss_digest", None)
        before.pop("loss_options", None)


def _refuse_keys_of_a_list(layer: Layer, merged: dict[str, Any]) -> None:
    """``ConfigError`` if ``layer`` sets keys of one source where earlier presets have several. A table with a path is a
    source of its own, which takes their place."""
    now = layer.values.get("data")
    if isinstance(merged.get("data"), list) and isinstance(now, dict) and "path" not in now:
        names = ", ".join(str(source.get("name")) for source in merged["data"])
        raise ConfigError(
            f"{where(layer, ('data', next(iter(now), '')))}: data.{next(iter(now), '')}: there are several sources "
            f"here ({names}), [[data]], and a key belongs to one of them: write it there, or give the list anew, "
            "data = [{…}, …]"
        )


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _validated(values: dict[str, Any], layers: list[Layer]) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(said_of(error, layers)) from error
