"""Starting vLLM on GPUs and on CPUs: the arguments and the environment that it is given."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import DataError, LeewayError
from ..common.preflight.model import load_config

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

CPU_BLOCK = 32
"""Tokens in a block of the CPU's KV cache. vLLM's own choice, 128, is longer than many prompts: the responses of a
group could then share no whole block of their prompt, and each would compute it again."""
CPU_STEP_TOKENS = 2048
"""The least number of prompt tokens that a CPU may take in one step."""


RUNNER_VARIABLE = "VLLM_USE_V2_MODEL_RUNNER"


async def start(
    model_path: str,
    arguments: dict[str, Any],
    threads: int,
    cpu_core: int | None,
    *,
    head_dtype: str = "auto",
    model_runner: str = "auto",
) -> AsyncLLM:
    """Build the engine inside the running loop, as vLLM requires. ``head_dtype`` and ``model_runner``: as the keys of
    ``rollout``. Raises ``DataError`` where vLLM cannot use the model, and ``LeewayError`` where vLLM does not start."""
    from vllm.config import WeightTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.v1.engine.async_llm import AsyncLLM

    from .vllm_context import overridden
    from .vllm_weights import BACKEND, OWNER_VARIABLE

    _check_plugin(BACKEND)
    environment = {OWNER_VARIABLE: str(os.getpid())}
    if model_runner != "auto":
        environment[RUNNER_VARIABLE] = "1" if model_runner == "v2" else "0"
    if head_dtype == "auto":
        head_dtype = "model" if current_platform.is_cpu() else "float32"
    if current_platform.is_cpu():
        environment |= _cpu_environment(threads, cpu_core)
        arguments |= _cpu_arguments(model_path, arguments)
    with _environment(environment):  # vLLM asks for them as it makes its configuration, and its processes inherit them
        try:
            config = AsyncEngineArgs(
                model=model_path,
                load_format="dummy",  # every weight comes through load()
                weight_transfer_config=WeightTransferConfig(backend=BACKEND),
                logprobs_mode="processed_logprobs",  # of logits/τ; vLLM's default is without the temperature
                hf_overrides=partial(overridden, head_dtype=head_dtype),
                generation_config="vllm",  # the ticket says how to sample, not the model folder
                disable_log_stats=True,
                **arguments,
            ).create_engine_config()
        except (OSError, ValueError) as error:
            raise DataError(f"vLLM cannot use the model {model_path}: {last_line(error)}") from error
        try:
            return AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        except RuntimeError as error:
            raise LeewayError(f"vLLM did not start with the model {model_path}; the reason is above") from error


def _cpu_arguments(model_path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that vLLM needs on a CPU: no compilation, a KV cache no larger than can be used, and whole
    prompts."""
    import psutil

    need = arguments["max_num_seqs"] * (arguments["max_model_len"] + CPU_BLOCK) * _kv_bytes_per_token(model_path)
    allowed = int(psutil.virtual_memory().available * arguments["gpu_memory_utilization"])
    return {
        "enforce_eager": True,  # compiling takes minutes and a C++ compiler
        "block_size": CPU_BLOCK,
        # A seeded request whose prompt is cut in two kills the engine: after the first piece vLLM rewinds the request's
        # generator, which a CPU generator cannot do. So prompts are never cut, and the longest fits in a step.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(arguments["max_model_len"], arguments["max_num_seqs"], CPU_STEP_TOKENS),
        "kv_cache_memory_bytes": min(need, allowed),
    }


def _kv_bytes_per_token(model_path: str) -> int:
    """How many bytes the keys and values of one token take. They are taken for 4-byte floats, to be on the safe
    side."""
    config = load_config(Path(model_path))
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * head_dim * 4)


def _cpu_environment(threads: int, cpu_core: int | None) -> dict[str, str]:
    """Variables that vLLM's CPU processes inherit: how many compute threads run on which cores. Without a ``cpu_core``,
    variables that the operator has set stay as they are."""
    # Even under enforce_eager a few small functions are compiled at their first call: 12 s for no measurable gain.
    wanted = {"TORCH_COMPILE_DISABLE": "1", "OMP_NUM_THREADS": str(threads)}
    if cpu_core is not None:
        return wanted | {"VLLM_CPU_OMP_THREADS_BIND": f"{cpu_core}-{cpu_core + threads - 1}"}
    wanted["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return {name: value for name, value in wanted.items() if name not in os.environ}


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started inside, and for them only."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def quiet_environment(model_path: str) -> None:
    """Set vLLM to log warnings only, to report no usage, and to use no network where the model is a folder. Call it
    before vLLM is imported."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    if os.path.isdir(model_path):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")


def model_folder(model_path: str) -> str:
    """The folder with the model's config and tokenizer. A name on the Hugging Face hub is fetched without its weights.
    Raises ``DataError`` where there is no such model."""
    if os.path.isfile(os.path.join(model_path, "config.json")):
        return model_path
    if os.path.isdir(model_path):
        raise DataError(f"{model_path} is not a model folder: it has no config.json")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", model_path):
        raise DataError(f"there is no model folder {model_path}")
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(model_path, allow_patterns=["*.json", "*.jinja", "*.txt", "*.model"])
    except (OSError, ValueError) as error:
        message = f"{model_path} is neither a folder nor a model that the hub gives: {last_line(error)}"
        raise DataError(message) from error


def _check_plugin(name: str) -> None:
    """Raise ``LeewayError`` where vLLM cannot load ``rollout/vllm_weights.py``. It loads it by its entry point, which
    only an installed package has."""
    from importlib.metadata import entry_points

    if name not in entry_points(group="vllm.general_plugins").names:
        raise LeewayError("vLLM does not find Leeway's plugin: install the package again (pip install -e .)")
    allowed = os.environ.get("VLLM_PLUGINS")
    if allowed is not None and name not in allowed.split(","):
        raise LeewayError(f"VLLM_PLUGINS={allowed!r} shuts out Leeway's plugin: add {name} to it")


def last_line(error: BaseException) -> str:
    """The message of a vLLM error, without the trace that remote errors carry in their text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
