"""How new weights enter vLLM: a weight transfer engine that reads one safetensors file on the same machine.

vLLM finds it through the entry point group ``vllm.general_plugins`` (pyproject.toml) in every process it starts, so
nothing of vLLM is patched. ``VllmEngine`` writes the file, names it in the update and deletes it afterwards;
safetensors holds no code, so nothing is ever unpickled. Under tensor parallelism every worker process reads the file
and keeps its own slice.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

if TYPE_CHECKING:
    import torch

BACKEND = "leeway"
"""The name under which vLLM knows this engine: ``WeightTransferConfig(backend=...)``."""
OWNER_VARIABLE = "LEEWAY_VLLM_OWNER"
"""Environment variable with the process id of the ``VllmEngine`` that a vLLM process works for."""


def register() -> None:
    """Entry point: make the engine known to vLLM. Called in each of its processes, perhaps more than once."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    # vLLM refuses a second registration and offers no way to ask first.
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, FileTransferEngine)
        if os.environ.get(OWNER_VARIABLE, str(os.getpid())) != str(os.getpid()):
            threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()


def _die_with_parent() -> None:
    """End this process when its parent is gone. vLLM's processes do not notice that by themselves: after ``kill -9`` of
    a rollout worker they would hold their cores or their GPU for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """There is nothing to agree on beforehand."""


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """One whole version of the weights."""

    path: str
    """Safetensors file under the model's Hugging Face names, on this machine."""


class FileTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Runs inside vLLM's worker process: loads one file into the model through layer-wise reloading.

    Layer-wise reloading is needed, not a nicety: on the CPU vLLM repacks linear layers after loading, and a bare
    ``load_weights`` would write into the repacked layout.
    """

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # At every load vLLM warns of layers that got nothing, which are those that have buffers only (rotary tables).
        # ``receive_weights`` checks the parameters itself, and refuses instead of warning.
        logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").setLevel(logging.ERROR)

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Nothing to connect."""

    def start_weight_update(self) -> None:
        """Put the layers back into the layout that checkpoints have."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """As vLLM's, except that there is no device to wait for on the CPU, where its call raises."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            import torch

            torch.accelerator.synchronize()

    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        """Load every tensor of the file; a parameter the file does not cover is an error, not yesterday's weight."""
        expected = {name for name, _ in self.model.named_parameters()}
        model: Any = self.model
        loaded = model.load_weights(_tensors(update_info.path))
        missing = expected - loaded if loaded is not None else set()
        if missing:
            raise ValueError(f"the new weights lack {len(missing)} of the model's parameters: {sorted(missing)[:4]}")

    def finish_weight_update(self) -> None:
        """Repack what is left (attention layers) and drop the references to the file."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        """Nothing to give back."""


def _tensors(path: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The file's tensors one after the other, as views of the mapped file: no copy besides the layer's own."""
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            yield name, file.get_tensor(name)
