"""The files that this rank writes for a checkpoint, the weights in them, and whether it sees a file that another rank
wrote."""

import copy
import os
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .deepspeed_import import deepspeed_package, name_accelerator
from .ranks import together

TAG = "policy"
"""DeepSpeed's folder in a checkpoint."""
Writing = Callable[[Path], list[Path]]
"""Writes a checkpoint's part of one rank into the folder that it is given, and returns the files."""


class Files:
    """Wraps DeepSpeed's own reader and writer of files, which it calls its checkpoint engine.

    DeepSpeed writes between its collectives, where ranks would wait for each other's disks in an exchange of tensors,
    and where an error on one of them would leave the others waiting. So nothing is written there: it is held until
    every rank has come out.
    """

    def __init__(self, own: Any) -> None:
        self._own = own
        self.begin(copied=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def begin(self, *, copied: bool) -> None:
        """Forget what is held. ``copied``: whether tensors are held as copies in the host's memory, which training does
        not change."""
        self._held: list[tuple[Path, Any]] = []
        self._failure: RuntimeError | None = None
        self._copied = copied

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make no folder yet."""

    def save(self, state_dict: Any, path: str) -> None:
        """Hold what belongs into a file. ``path`` is relative to the folder that is written into later."""
        try:
            self._held.append((Path(path), in_host_memory(state_dict) if self._copied else state_dict))
        except RuntimeError as error:  # torch says so that there is no memory
            self._failure = error

    def load(self, path: str, map_location: Any = None) -> Any:
        """What a file holds. The weights, of which every rank reads all below ZeRO stage 3, stay in the file until
        they are copied, so that a rank does not hold them twice."""
        if not path.endswith("_model_states.pt"):
            return self._own.load(path, map_location=map_location)
        return torch.load(path, map_location=map_location, weights_only=False, mmap=True)

    def end(self) -> Writing:
        """What writes the files that are held. Raises the error that kept one from being copied."""
        if self._failure is not None:
            raise self._failure
        held, own = self._held, self._own
        self.begin(copied=False)

        def write(folder: Path) -> list[Path]:
            for path, state in held:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                own.save(state, str(folder / path))
            return [folder / path for path, _ in held]

        return write


def in_host_memory(value: Any) -> Any:
    """A copy of ``value`` (tensors in dicts, lists and tuples) in the host's memory. It makes as large a
    file: tensors that share memory share it in the copy as well. Attributes that DeepSpeed has hung on tensors are left
    out, because nothing reads them."""
    copies: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def copied(part: Any) -> Any:
        if isinstance(part, Tensor):
            storage = part.untyped_storage()
            if id(storage) not in copies:  # the same object for all tensors over it, as long as we hold it
                copies[id(storage)] = storage, storage.cpu() if storage.is_cuda else storage.clone()
            own = _over(copies[id(storage)][1], part)
            if isinstance(part, nn.Parameter):
                return nn.Parameter(own, part.requires_grad)
            return own.requires_grad_(part.requires_grad)
        if isinstance(part, dict):
            same = copy.copy(part)
            same.update((key, copied(each)) for key, each in part.items())
            return same
        if type(part) in (list, tuple):
            return type(part)(copied(each) for each in part)
        return copy.deepcopy(part)  # objects of DeepSpeed's, such as its loss scaler, change with the steps

    return copied(value)


def _over(storage: torch.UntypedStorage, like: Tensor) -> Tensor:
    """A tensor like ``like`` over another storage."""
    return torch.empty(0, dtype=like.dtype).set_(storage, like.storage_offset(), like.shape, like.stride())


def meeting_after_files(optimizer: Any) -> None:
    """Let the ranks meet before DeepSpeed's ZeRO 3 ``optimizer`` exchanges tensors at the end of a checkpoint's reading
    or taking, because they may come out of their files minutes apart."""
    exchange = optimizer.checkpoint_event_epilogue

    def meet_first() -> None:
        together(lambda: None)
        exchange()

    optimizer.checkpoint_event_epilogue = meet_first


def seen(path: Path, patience_s: float) -> bool:
    """Whether ``path`` is there, or comes to be within ``patience_s`` seconds."""
    deadline = time.monotonic() + patience_s
    while not path.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def saved_weights(folder: Path, zero_stage: int) -> dict[str, Tensor]:
    """The weights that ``Policy.snapshot`` wrote under ``zero_stage`` on any number of ranks: float32 on the CPU, by
    Hugging Face name.

    One process reads them, without an engine. Up to ZeRO stage 2, rank 0's file has the whole weights, and they stay on
    disk until they are used. Under ZeRO stage 3 every rank's file has a part, and DeepSpeed's own ``zero_to_fp32`` puts
    the parts together in memory. Under ``train.bfloat16 = "weights"`` the former are in
    bfloat16, and the latter are their masters.
    """
    name_accelerator()
    if zero_stage < 3:
        file = folder / TAG / "mp_rank_00_model_states.pt"
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["module"]
    else:
        deepspeed_package()
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        # It reports its progress on both streams.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            found = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=TAG)
    return {name.removeprefix("language_model."): tensor for name, tensor in found.items()}
