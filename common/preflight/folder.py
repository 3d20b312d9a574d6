"""Reads a model folder without its weights: the keys, and the headers of its safetensors files."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError

LFS_POINTER = b"version https://git-lfs.github.com/spec"
LONGEST_HEADER = 100_000_000
"""Most bytes of a header, as in safetensors itself."""
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
_OTHER_KINDS = {"*.bin": "PyTorch's *.bin", "*.gguf": "GGUF", "*.pth": "*.pth", "*.pt": "*.pt"}
"""Files of weights that are not read here, and what to call them."""
DUE = "expected a folder in Hugging Face layout: config.json, *.safetensors, and the tokenizer's files"


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of one tensor."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFolder:
    """What a model folder holds beside the weights."""

    path: Path
    keys: Mapping[str, Any]
    """``config.json``."""
    generation: Mapping[str, Any]
    """``generation_config.json``; empty if there is none."""
    tensors: Mapping[str, Header] | None
    """The headers of all weights by name; None if they were not asked for."""


def read_folder(path: Path, *, weights: bool) -> ModelFolder:
    """Read ``path``. ``weights``: whether its weights are needed, so that their headers are read. Raises ``DataError``,
    which says what is damaged or why it is not a model folder."""
    if not (path / "config.json").is_file():
        raise DataError(f"model {path}: {_what_it_is(path)}; {DUE}")
    return ModelFolder(
        path=path,
        keys=read_object(path / "config.json"),
        generation=read_object(file) if (file := path / "generation_config.json").is_file() else {},
        tensors=_tensors(path) if weights else None,
    )


def _what_it_is(path: Path) -> str:
    if not path.exists():
        return "there is no such folder"
    if path.is_file():
        kind = "a GGUF file" if path.suffix == ".gguf" else "a file"
        return f"it is {kind}, no model folder"
    if (path / "adapter_config.json").is_file():
        return "it is a LoRA adapter without its model: merge it into its base model (peft: merge_and_unload)"
    if (path / "checkpoints").is_dir():
        return f"it is a run's folder: leeway export {path.name} --out MODEL makes a model folder of it"
    if path.parent.name == "checkpoints":
        run = path.parent.parent.name
        return f"it is a checkpoint of a run: leeway export {run} --out MODEL makes a model folder of it"
    if list(path.glob("*.gguf")):
        return "it has GGUF files and no config.json"
    return "it has no config.json"


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ``DataError`` if there is none."""
    text = path.read_bytes()
    if text.startswith(LFS_POINTER):
        raise DataError(f"{path} is a pointer of git-lfs instead of the file: run git lfs pull in its folder")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds {type(found).__name__}; expected an object")
    return found


def _tensors(path: Path) -> dict[str, Header]:
    """The headers in the files that transformers reads: the single file, or those that the index names."""
    if (path / WEIGHTS).is_file():
        return read_header(path / WEIGHTS)
    if not (path / INDEX).is_file():
        raise DataError(f"model {path}: {_why_no_weights(path)}")
    named = read_object(path / INDEX).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise DataError(f"{path / INDEX} has no weight_map, which names the file of each tensor")
    found: dict[str, Header] = {}
    for file in sorted(set(named.values())):
        if not (path / file).is_file():
            raise DataError(f"model {path}: {INDEX} names {file}, which is not there")
        held = read_header(path / file)
        if lost := sorted(name for name, where in named.items() if where == file and name not in held):
            raise DataError(f"model {path}: {INDEX} says that {file} holds {some(lost)}, and it does not")
        found |= held
    return found


def has_weights(path: Path) -> bool:
    """Whether there are weights in ``path``, of whatever kind, whole or not. A folder without any is enough for a
    plan."""
    return any(list(path.glob(pattern)) for pattern in ("*.safetensors", "adapter_model.*", *_OTHER_KINDS))


def _why_no_weights(path: Path) -> str:
    if list(path.glob("adapter_model.*")):
        return "it is a LoRA adapter without its model: merge it into its base model (peft: merge_and_unload)"
    if parts := sorted(file.name for file in path.glob("*.safetensors")):
        return f"it has {some(parts)}, but neither {WEIGHTS} nor {INDEX}, which says what is where"
    for pattern, kind in _OTHER_KINDS.items():
        if list(path.glob(pattern)):
            return (
                f"its weights are {kind} alone, but *.safetensors are needed: load it with transformers and "
                "save_pretrained it"
            )
    return "it has no *.safetensors: its weights are not there"


def read_header(path: Path) -> dict[str, Header]:
    """The headers of a safetensors file's tensors by name. ``DataError`` if it is not such a file, or not whole."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            raise DataError(f"{path} is a pointer of git-lfs instead of the weights: run git lfs pull in its folder")
        length = int.from_bytes(start[:8], "little")
        if size < 8 or not 2 <= length <= min(LONGEST_HEADER, size - 8):
            raise DataError(f"{path} is no safetensors file, or breaks off in its header ({size} bytes)")
        file.seek(8)
        try:
            entries = json.loads(file.read(length))
            found = {
                name: (entry["dtype"], tuple(map(int, entry["shape"])), *map(int, entry["data_offsets"]))
                for name, entry in entries.items()
                if name != "__metadata__"
            }
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"{path} is no safetensors file: its header cannot be read: {error}") from error
    for name, (dtype, shape, begin, end) in found.items():
        if dtype in _BITS and math.prod(shape) * _BITS[dtype] != 8 * (end - begin):
            raise DataError(f"{path}: {name} is {dtype} {list(shape)}, but has {end - begin} bytes")
    due = 8 + length + max((end for *_, end in found.values()), default=0)
    if size != due:
        raise DataError(f"{path} is not whole: {size} bytes, and its header says {due}; fetch it again")
    return {name: Header(dtype, shape) for name, (dtype, shape, *_) in found.items()}


def some(names: list[str], most: int = 3) -> str:
    """The first few of many names."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
