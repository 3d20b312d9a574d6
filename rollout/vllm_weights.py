"""How new weights enter vLLM: a weight transfer engine that reads one safetensors file on the same machine.

Every process that vLLM starts finds the engine through the entry point group ``vllm.general_plugins`` (pyproject.toml),
so nothing of vLLM is patched. ``VllmEngine`` names the file in the update: the buffer of the node's copy of the
weights, which stays as it is until the update has finished. safetensors holds no code, so nothing is ever unpickled.
Under tensor parallelism every worker process maps the file and keeps its own slice.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

BACKEND = "leeway"
"""The name under which vLLM knows this engine: ``WeightTransferConfig(backend=...)``."""
OWNER_VARIABLE = "LEEWAY_VLLM_OWNER"
"""Environment variable with the process id of the ``VllmEngine`` that a vLLM process works for."""


def register() -> None:
    """Make the engine known to vLLM, which calls this entry point in each of its processes, perhaps more than once."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    # vLLM refuses a second registration and offers no way to ask first.
    if BACKEND not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(BACKEND, FileTransferEngine)
        if os.environ.get(OWNER_VARIABLE, str(os.getpid())) != str(os.getpid()):
            threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()


def _die_with_parent() -> None:
    """End this process when its parent is gone. vLLM's processes do not notice that by themselves: after ``kill -9`` of
    a rollout worker they would hold their cores or their GPU forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """Empty: there is nothing to agree on beforehand."""


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """One whole version of the weights."""

    path: str
    """Safetensors file on this machine, with tensors under the model's Hugging Face names."""
    also: dict[str, str] = field(default_factory=dict)
    """Further names of tensors, each with the name that the file has for it."""


class FileTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Runs inside vLLM's worker process: loads one file into the model through layer-wise reloading.

    Layer-wise reloading is necessary: on the CPU vLLM repacks linear layers after loading, and a bare ``load_weights``
    would write into the repacked layout.
    """

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._config = self.model_config.hf_text_config
        # At every load vLLM warns of layers that got no weights. These are layers that have only buffers (rotary
        # tables). ``receive_weights`` checks the parameters itself, and raises instead of warning.
        logging.getLogger("vllm.model_executor.model_loader.reload.layerwise").setLevel(logging.ERROR)

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Do nothing: there is no connection to make."""

    def start_weight_update(self) -> None:
        """Put the layers back into the layout in which weights are loaded."""
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        if self.device.type == "cpu":
            _forget_kernels_of_experts(self.model)
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load the weights as vLLM does, but wait for no device on the CPU, where vLLM's call raises."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            import torch

            torch.accelerator.synchronize()

    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        """Load every tensor of the file. Raises ``ValueError`` where the file lacks a parameter, which would keep its
        old weights."""
        expected = {name for name, _ in self.model.named_parameters()}
        model: Any = self.model
        loaded = model.load_weights(as_published(_tensors(update_info.path, update_info.also), self._config))
        missing = expected - loaded if loaded is not None else set()
        if missing:
            raise ValueError(f"the new weights lack {len(missing)} of the model's parameters: {sorted(missing)[:4]}")

    def finish_weight_update(self) -> None:
        """Repack what is left (attention layers) and drop the references to the file."""
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)  # type: ignore[no-untyped-call]

    def shutdown(self) -> None:
        """Do nothing: there is nothing to free."""


def as_published(
    tensors: Iterable[tuple[str, torch.Tensor]], config: PretrainedConfig
) -> Iterable[tuple[str, torch.Tensor]]:
    """``tensors`` of transformers' model as they are named and cut in published files of its kind, which vLLM reads. A
    mixture's experts are one tensor in transformers, and under other names in some kinds."""
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping
    from transformers.core_model_loading import PrefixChange, revert_weight_conversion

    found = get_checkpoint_conversion_mapping(config.model_type) or ()  # type: ignore[no-untyped-call]
    conversions = [each for each in found if not isinstance(each, PrefixChange)]
    if not conversions:
        return tensors
    of: Any = SimpleNamespace(_weight_conversions=conversions, config=config)  # what it asks of a model
    # One at a time, because some are copied.
    return (each for name, tensor in tensors for each in revert_weight_conversion(of, {name: tensor}).items())


def _forget_kernels_of_experts(model: torch.nn.Module) -> None:
    """Have vLLM make the kernels of a mixture's experts anew. On a CPU it repacks the experts' weights only as it makes
    their kernel, so at an update it would put plain weights where the kernel reads packed ones."""
    for layer in model.modules():
        method = getattr(layer, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None  # type: ignore[union-attr]


def _tensors(path: str, also: dict[str, str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The file's tensors one after the other, under all their names, as views of the mapped file, so that only the
    layer makes a copy."""
    from safetensors import safe_open

    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - not a dict
            yield name, file.get_tensor(name)
        for name, held in also.items():
            yield name, file.get_tensor(held)
