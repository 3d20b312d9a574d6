"""Reads the weights of a model folder, so that no rank holds more of them than it keeps.

::

    open a model without weights ──▶ make room, or share out (ZeRO stage 3) ──▶ read

A model is opened with placeholders for its weights, which take no memory. transformers puts them in their places as it
does with weights, and so tells which tensor of the files is which parameter, what is tied, missing or surplus, and what
the buffers hold. Then each rank makes room for what it keeps: whole parameters, or under ZeRO stage 3 its own part of
each. It reads just that, a piece at a time, into its place and dtype.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..common.config import Config, expand
from ..common.errors import DataError
from ..common.large_imports import large_import
from ..common.preflight.architecture import why_not_trained
from ..common.preflight.folder import INDEX, WEIGHTS, read_folder, read_header, read_object, some
from ..common.preflight.hub import is_hub_name
from ..common.preflight.weights import why_quantised
from ..common.rope import context_of, why_not_packed, why_too_long
from . import attention
from .ranks import rank

PIECE = 1 << 22
"""Elements that are read at a time, or one row where that is longer."""
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a safetensors file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    floating: bool
    """Whether it holds floating-point numbers, which take the dtype of training."""


class Unread:
    """The weights of a model that are still in the files: which of their tensors each parameter is."""

    def __init__(self, files: list[Path], origins: dict[nn.Parameter, Stored], twins: list[tuple[Stored, Stored]]):
        """``twins``: two tensors that are one tied parameter, of which ``origins`` has the second."""
        self.files, self._origins, self._twins = files, origins, twins

    def make_room(self, device: torch.device) -> None:
        """Give every parameter its memory on ``device``. Parameters that were read already stay where they are."""
        for parameter in self._origins:
            parameter.data = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)

    def share_out(self, module: nn.Module, device: torch.device, partition: Callable[[nn.Module], object]) -> None:
        """Give every parameter of ``module`` to ``partition``, which leaves this rank its part (``ds_tensor``). They
        come one at a time, each in a module of its own, so that one at most is whole on ``device``. Collective."""
        sizes = {parameter.dtype: 0 for parameter in self._origins}
        for parameter in self._origins:
            sizes[parameter.dtype] = max(sizes[parameter.dtype], parameter.numel())
        # All of them lie in the same memory in turn. Memory of their own, between parts that stay, would leave gaps
        # that the allocator cannot give back.
        rooms = {dtype: torch.empty(size, dtype=dtype, device=device) for dtype, size in sizes.items()}
        for parameter in module.parameters():
            if parameter in self._origins:
                parameter.data = rooms[parameter.dtype][: parameter.numel()].view(parameter.shape)
            partition(nn.ParameterList([parameter]))

    def read(self) -> None:
        """Read into every parameter what this rank keeps of it. Raises ``DataError`` where the files' copies of a tied
        tensor differ in that part, and ``OSError`` where a file is gone."""
        with Reader() as reader:
            for parameter, stored in self._origins.items():
                kept, start = _kept(parameter)
                for place, piece in reader.pieces(stored, start, start + kept.numel()):
                    kept[place].copy_(piece)
            for twin, stored in self._twins:
                self._refuse_other(reader, twin, stored)

    def _refuse_other(self, reader: "Reader", twin: Stored, stored: Stored) -> None:
        parameter = next(each for each, origin in self._origins.items() if origin is stored)
        kept, start = _kept(parameter)
        for place, piece in reader.pieces(twin, start, start + kept.numel()):
            if not torch.equal(kept[place].cpu(), piece.to(kept.dtype)):
                raise DataError(
                    f"{twin.file}: {twin.name} is not the same as {stored.name}, and config.json ties them: one of the "
                    "two is wrong, or tie_word_embeddings is to be false"
                )


class Reader:
    """Opens each file once, and gives its tensors in pieces. The bytes stay in the files' mapping until they are
    copied."""

    def __enter__(self) -> "Reader":
        self._closing, self._open = ExitStack(), dict[Path, Any]()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closing.close()

    def pieces(self, stored: Stored, start: int, end: int) -> Iterator[tuple[slice, Tensor]]:
        """Elements [``start``, ``end``) of the flattened tensor, as one-dimensional pieces in the file's dtype, each
        with its place counted from ``start``."""
        file = self._file(stored)
        if not stored.shape:
            if start < end:
                yield slice(0, 1), file.get_tensor(stored.name).reshape(1)
            return
        width = prod(stored.shape[1:])  # a slice is of whole rows
        if start >= end or width == 0:
            return
        rows, step, last = file.get_slice(stored.name), max(1, PIECE // width), -(-end // width)
        for row in range(start // width, last, step):
            below = min(row + step, last)
            low, high = max(start, row * width), min(end, below * width)
            piece = rows[row:below].reshape(-1)[low - row * width : high - row * width]
            yield slice(low - start, high - start), piece

    def whole(self, stored: Stored) -> Tensor:
        """A copy of the tensor, in the file's dtype."""
        return self._file(stored).get_tensor(stored.name).clone()

    def _file(self, stored: Stored) -> Any:
        if stored.file not in self._open:
            self._open[stored.file] = self._closing.enter_context(safe_open(stored.file, framework="pt", device="cpu"))
        return self._open[stored.file]


def _kept(parameter: Any) -> tuple[Tensor, int]:
    """The part of ``parameter`` that this rank keeps, flat, and where it begins. Under ZeRO stage 3 every rank has a
    part of the same size, and the last ones are filled up; the filling is left out."""
    part = getattr(parameter, "ds_tensor", None)
    if part is None:
        return parameter.data.view(-1), 0
    start = min(rank() * part.numel(), parameter.ds_numel)
    return part.data.view(-1)[: parameter.ds_numel - start], start


def open_language_model(config: Config, dtype: torch.dtype = torch.float32) -> tuple[Any, Unread]:
    """The causal language model that ``config.model.path`` names (a folder in Hugging Face layout, or a hub name) in
    ``dtype`` and with dropout off, and its weights, which are still to be read.

    Raises ``DataError`` where there is no such model, where it cannot be trained here, and where the files' tensors are
    not those of the model.
    """
    with large_import():
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.utils import logging

    logging.disable_progress_bar()
    path = expand(config.model.path)
    try:
        folder = _downloaded(path) if is_hub_name(path) else Path(path)
        read_folder(folder, weights=True)  # raises for files that are missing or not whole
        shape = AutoConfig.from_pretrained(folder)
        for key in vars(shape):
            if "dropout" in key or key.endswith("pdrop"):
                setattr(shape, key, 0.0)  # not by eval mode alone: gradient checkpointing works in train mode only
        _refuse_untrainable(config, shape, path)
        with torch.device("meta"), large_import():  # of the model's own code
            empty = AutoModelForCausalLM.from_config(shape)
        how = {
            "config": shape,
            "dtype": dtype,
            "attn_implementation": attention.register(attention.choose(config, shape)),
        }
        model, unread = _opened(empty, how, folder, f"model {path}")
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"model {path}: {' '.join(str(error).split())}") from error
    if not model._supports_attention_backend:
        raise DataError(f"model {path}: {shape.model_type} has layers that would mix packed responses")
    return model, unread


def _opened(empty: Any, how: dict[str, Any], folder: Path, what: str) -> tuple[Any, Unread]:
    """A model of the class of ``empty``, and its weights. ``how``: what else ``from_pretrained`` is given. ``what``:
    the model's name in messages."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    tensors = _stored(files := weight_files(folder))

    def made(source: Path | None, weights: dict[str, Tensor] | None) -> Any:
        asked = how | {"output_loading_info": True, "ignore_mismatched_sizes": True}  # they are named below
        model, told = type(empty).from_pretrained(source, state_dict=weights, **asked)
        _refuse_other_tensors(what, how["config"].model_type, tensors, told)
        return model

    if any(isinstance(each, WeightConverter) for each in get_model_conversion_mapping(empty)):
        # transformers puts parameters together out of several tensors (a layer's experts), and needs these whole.
        return made(folder, None), Unread(files, {}, [])
    placeholders = dict(_placeholders(tensors.values(), how["dtype"]))
    model = made(None, dict(placeholders))
    stored_at = {tensor.data_ptr(): tensors[name] for name, tensor in placeholders.items()}
    origins = {parameter: stored_at[parameter.data_ptr()] for parameter in model.parameters()}
    assert all(parameter.shape == stored.shape for parameter, stored in origins.items())
    _read_buffers(model, stored_at)
    named = model.state_dict(keep_vars=True)
    twins = [
        (stored, origins[named[name]])
        for name, stored in tensors.items()
        if named.get(name) in origins and origins[named[name]] is not stored
    ]
    return model, Unread(files, origins, twins)


def _stored(files: list[Path]) -> dict[str, Stored]:
    return {
        name: Stored(file, name, header.shape, header.dtype in _FLOATS)
        for file in files
        for name, header in read_header(file).items()
    }


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder: the single one, or those that its index names."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    return [folder / name for name in sorted(set(read_object(folder / INDEX)["weight_map"].values()))]


def _placeholders(tensors: Iterable[Stored], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """A tensor for each of the files', of its shape, that takes the memory of one number. Integers (masks of old
    checkpoints) are read as they are."""
    with Reader() as reader:
        for stored in tensors:
            if stored.floating:
                yield stored.name, torch.zeros((), dtype=dtype).expand(stored.shape)
            else:
                yield stored.name, reader.whole(stored)


def _read_buffers(model: nn.Module, stored_at: dict[int, Stored]) -> None:
    """Read the buffers that the files hold. transformers has computed the others."""
    with Reader() as reader:
        for name, buffer in list(model.named_buffers()):
            if (stored := stored_at.get(buffer.data_ptr())) is not None and stored.floating:
                owner, _, own = name.rpartition(".")
                setattr(model.get_submodule(owner), own, reader.whole(stored).to(buffer.dtype))


def _refuse_other_tensors(what: str, kind: str, tensors: dict[str, Stored], told: dict[str, Any]) -> None:
    """Raise ``DataError`` where the files lack a tensor or have one of another shape, which transformers would make up,
    or hold one too many, which it would leave out."""
    files = sorted({stored.file.name for stored in tensors.values()})
    for tensor, found, due in sorted(told["mismatched_keys"]):
        raise DataError(f"{what}: {tensor} is {list(found)}, and its config.json makes it {list(due)} ({some(files)})")
    if missing := sorted(told["missing_keys"]):
        raise DataError(f"{what}: the weights lack {some(missing)} ({some(files)})")
    if surplus := sorted(told["unexpected_keys"]):
        where = tensors[surplus[0]].file.name if surplus[0] in tensors else some(files)
        raise DataError(f"{what}: {where} holds {some(surplus)}, which a {kind} of its config.json does not have")


def _downloaded(name: str) -> Path:
    """The folder of a hub name in this machine's cache, with what is needed of it downloaded."""
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(name, allow_patterns=["config.json", "generation_config.json", WEIGHTS, INDEX]))
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        parts = sorted(set(read_object(folder / INDEX)["weight_map"].values()))
        folder = Path(snapshot_download(name, allow_patterns=["config.json", "generation_config.json", INDEX, *parts]))
    return folder


def _refuse_untrainable(config: Config, shape: Any, path: str) -> None:
    """Raise ``DataError`` where the model's own config, defaults included, says that it cannot be trained here."""
    # to_dict lacks the key for GPT-2, which maps the name
    keys = {**shape.to_dict(), "max_position_embeddings": getattr(shape, "max_position_embeddings", None)}
    if (why := why_too_long(config.tokens_by_key, f"model {path}", context_of(keys))) is not None:
        raise DataError(why)
    why = why_quantised(keys, None) or why_not_trained(keys) or why_not_packed(keys, config.longest_sequence)
    if why is not None:
        raise DataError(f"model {path}: {why}")
