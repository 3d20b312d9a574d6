"""``leeway rollout``: one rollout worker. The arguments are parsed first, and the heavy imports follow."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, closing, nullcontext
from math import prod
from typing import TYPE_CHECKING

from ..common import devices
from ..common.activity import Activity, Doing
from ..common.config import Config, expand
from ..common.large_imports import large_import
from ..common.preflight.folder import ModelFolder, read_folder
from ..common.preflight.model import check_model
from ..common.queue.rollout import RolloutQueue
from ..common.role import role_parser, run_role
from ..common.service import Service
from ..common.stopping import stoppable
from ..common.weights import DTYPE_BYTES
from ..common.weights.node_folder import name_of, place

if TYPE_CHECKING:
    from .engine import Engine
    from .environments import EnvironmentHost


def make_engine(config: Config, worker: str, environments: EnvironmentHost | None) -> Engine:
    """Make the engine that the configuration names, for the worker of this name. ``environments``, where there are any,
    answer the policy's turns."""
    rollout = config.rollout
    path, recompute = expand(config.model.path), rollout.kv_on_update == "recompute"
    if rollout.engine == "torch":
        with large_import():
            from .torch_engine import TorchEngine

        return TorchEngine(
            path,
            dtype=rollout.dtype,
            worker=worker,
            threads=rollout.threads,
            recompute=recompute,
            environments=environments,
        )
    from .vllm_engine import VllmEngine

    return VllmEngine(
        path,
        dtype=rollout.dtype,
        worker=worker,
        max_model_len=config.longest_sequence,
        max_num_seqs=config.most_responses_at_once,
        gpu_memory_utilization=rollout.gpu_memory_utilization,
        tensor_parallel_size=rollout.tensor_parallel,
        concurrency=rollout.concurrency,
        threads=rollout.threads,
        recompute=recompute,
        environments=environments,
        head_dtype=rollout.head_dtype,
        model_runner=rollout.model_runner,
    )


def environments_of(config: Config) -> AbstractContextManager[EnvironmentHost | None]:
    """The run's environments, where it has any, and their end."""
    if config.environment is None:
        return nullcontext()
    from .environments import EnvironmentHost

    return closing(EnvironmentHost(config))


def refuse_too_small(queue: RolloutQueue, config: Config, model: ModelFolder | None) -> None:
    """``ConfigError`` if this node has no room for its copy of the weights, as far as their size is known before the
    model loads: from the newest version, or else from the model's files, where they are at hand."""
    size = max((manifest.full_bytes for manifest in queue.weights.manifests()), default=0)
    if not size and model is not None and list(model.path.glob("*.safetensors")):
        headers = read_folder(model.path, weights=True).tensors or {}
        size = DTYPE_BYTES[config.weights.dtype] * sum(prod(header.shape) for header in headers.values())
    place(name_of(queue.connection.url, queue.run), size, config.weights.node)


def take_gpus(config: Config) -> None:
    """Refuse to start with fewer GPUs than the configuration gives a worker, and hide them where it gives none."""
    said, each = config.placement.rollout, config.rollout.tensor_parallel
    if said == "cpu":
        devices.hide()
    elif config.rollout.engine == "vllm":
        asked = f"placement.rollout = {said!r} with rollout.tensor_parallel = {each}"
        devices.refuse_too_few(each, asked, required=said != "auto")


def work(queue: RolloutQueue, service: Service, config: Config) -> None:
    """Load the engine and generate until the run is over."""
    take_gpus(config)
    refuse_too_small(queue, config, check_model(config, "sample"))
    with large_import():
        from .worker import RolloutWorker

    service.doing(Doing(Activity.LOADING_MODEL))
    with environments_of(config) as environments, closing(make_engine(config, queue.worker, environments)) as engine:
        RolloutWorker(queue, service, engine, config).run()


def main() -> int:
    """Parse the arguments and run."""
    arguments = role_parser("rollout", __doc__).parse_args()
    return run_role("rollout", RolloutQueue, arguments.redis_url, arguments.run, work, wait_s=arguments.wait_s)


if __name__ == "__main__":
    sys.exit(stoppable(main))
