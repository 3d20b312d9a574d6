"""Sampling with vLLM: the fast engine, through the same code on GPU nodes and (slowly) on CPUs.

vLLM's asynchronous engine runs on an event loop in a thread of its own and does its work in child processes. Many
groups share its batch. Weights change under running requests without losing a token (``pause_generation`` with
``keep``), and vLLM itself says which version sampled which tokens.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..common.errors import DataError, RoleDiedError, WeightsError
from ..common.preflight.model import load_config
from ..common.types import Responses
from .engine import Aborted
from .vllm_start import last_line, model_folder, quiet_environment, start
from .vllm_turns import ABORTED, ENDED, VersionFell, converse, conversed, flat

if TYPE_CHECKING:
    import torch
    from vllm import SamplingParams
    from vllm.outputs import CompletionOutput
    from vllm.v1.engine.async_llm import AsyncLLM

    from ..common.types import Ticket
    from .environments import EnvironmentHost

Result = TypeVar("Result")

CLOSE_S = 20
"""How many seconds vLLM's processes have to end by themselves. If they are killed, they leave shared memory behind."""


class VllmEngine:
    """The ``Engine`` protocol on vLLM.

    Weights come only through ``load``: ``model_path`` gives config and tokenizer, and the engine starts with dummy
    weights, from which it refuses to sample.
    """

    def __init__(
        self,
        model_path: str,
        *,
        dtype: str,
        worker: str,
        max_model_len: int,
        max_num_seqs: int,
        gpu_memory_utilization: float = 0.9,
        tensor_parallel_size: int = 1,
        concurrency: int = 4,
        threads: int = 1,
        cpu_core: int | None = None,
        seed: int = 0,
        recompute: bool = True,
        environments: EnvironmentHost | None = None,
        **choices: str,
    ) -> None:
        """Start vLLM's processes. That takes half a minute on the CPU, and minutes for a large model on GPUs.

        ``model_path``: a Hugging Face folder, or a name on the hub. ``dtype``: torch name of the type to compute in.
        ``max_model_len``: tokens of prompt and response together. ``max_num_seqs``: responses (not groups) sampled
        side by side. ``gpu_memory_utilization``: share of each GPU's memory, on the CPU the share of free memory that
        the KV cache may take at most. ``threads`` and ``cpu_core`` matter on the CPU only: compute threads, and the
        first of the cores to bind vLLM's processes to (``None``: wherever the system puts them). ``recompute``: as for
        ``TorchEngine``. Without it nothing is cached between requests, because one could read what older weights wrote;
        the G responses of a group then read their prompt G times. ``environments``, where there are any, answer the
        policy's turns. ``choices``: see ``vllm_start.start``.
        """
        from .torch_engine import end_tokens  # every engine ends responses by the same rule

        quiet_environment(model_path)
        model_path = model_folder(model_path)
        self._end_tokens = sorted(end_tokens(model_path))
        self._ties_embeddings = load_config(Path(model_path)).tie_word_embeddings
        self.version = -1
        self.concurrency = concurrency
        self._recompute, self._environments = recompute, environments
        self._worker, self._max_model_len = worker, max_model_len
        self._numbers = itertools.count()
        self.under_way: dict[str, concurrent.futures.Future[Any]] = {}  # by group id
        self._broken: str | None = None
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-loop", daemon=True)
        self._thread.start()
        arguments: dict[str, Any] = {
            "dtype": dtype,
            "max_model_len": max_model_len,
            "max_num_seqs": max_num_seqs,
            "tensor_parallel_size": tensor_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            "seed": seed,
            "enable_prefix_caching": recompute,  # the G responses share their prompt; each load clears the cache
        }
        try:
            self._llm: AsyncLLM | None = self._run(start(model_path, arguments, threads, cpu_core, **choices))
        except BaseException:
            self._stop_loop()
            raise

    def load(self, version: int, tensors: Mapping[str, torch.Tensor], file: Path | None = None) -> float:
        """Take new weights and return the seconds in which no token could be sampled.

        ``tensors``: CPU tensors under the model's Hugging Face names, of any float dtype; vLLM casts to its own. vLLM's
        processes map ``file``, which holds the same. Without it, a file is written for them before sampling pauses.
        Running responses go on under the new weights; their keys and values are computed anew, or kept without
        ``recompute``. No request uses what another computed under an earlier version. A version below the present one
        (the learner went back to a checkpoint) starts the running responses over instead, since versions never fall
        within a response. Raises ``WeightsError`` where vLLM cannot load the weights; the engine is then unusable.
        """
        also = _tied(tensors) if self._ties_embeddings else {}
        if file is not None:
            return self._run(self._swap(version, str(file), also))
        folder = _transfer_folder(sum(t.numel() * t.element_size() for t in tensors.values()))
        try:
            path = os.path.join(folder, f"{version}.safetensors")
            _write(path, tensors)
            return self._run(self._swap(version, path, also))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def generate(self, ticket: Ticket) -> Responses:
        """Sample the ticket's G responses; response j has the seed ``ticket.seed + j``, and each further turn of it one
        that is made of this.

        A fixed seed does not fix the tokens, because floating-point results depend on what else is in the batch. Raises
        ``WeightsError`` before the first ``load``, ``DataError`` for a ticket longer than ``max_model_len``,
        ``Aborted`` after ``abort``, ``EnvironmentFailed`` where an environment has, and ``RoleDiedError`` where the
        engine is dead, unusable or closed.
        """
        if self.version < 0:
            raise WeightsError("generate was called before the first load: there is no version to sample from")
        if ticket.prompt_tokens_P.size + ticket.max_new_tokens > self._max_model_len:
            raise DataError(
                f"group {ticket.group_id}: {ticket.prompt_tokens_P.size} prompt tokens and {ticket.max_new_tokens} new "
                f"ones exceed max_model_len = {self._max_model_len}"
            )
        started = time.monotonic()
        if self._environments is not None:
            return self._converse(ticket, self._environments)
        outputs = self._run(self._sample(ticket), ticket.group_id)
        seconds = time.monotonic() - started
        return _responses(ticket, outputs, worker=self._worker, seconds=seconds)

    def _converse(self, ticket: Ticket, environments: EnvironmentHost) -> Responses:
        """``generate``'s responses, in conversation with the environments. They are started over, with environments
        that are reset, where a falling version came within one."""
        while True:
            with environments.open(ticket) as conversations, contextlib.suppress(VersionFell):
                started = time.monotonic()
                told = self._run(converse(partial(self._turn, ticket), conversations, ticket), ticket.group_id)
                seconds = time.monotonic() - started
                return conversed(ticket, told, conversations, worker=self._worker, seconds=seconds)

    def abort(self, group_id: str) -> None:
        """Abort the group's requests, if it is under way."""
        sampling = self.under_way.get(group_id)
        if sampling is not None:
            sampling.cancel()  # vLLM's generate() aborts its requests when it is cancelled

    def close(self) -> None:
        """End vLLM's processes and the loop. Waiting ``generate`` calls raise. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._llm is not None:
            with contextlib.suppress(Exception):
                asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop).result(timeout=10)
            # This must not run on the loop: it joins processes that only the loop can tell that nobody reads any more.
            self._llm.shutdown(timeout=CLOSE_S)
            self._llm = None
        self._stop_loop()

    def _run(self, work: Coroutine[Any, Any, Result], group_id: str | None = None) -> Result:
        """Do ``work`` on the loop and wait for its result. Raises ``RoleDiedError`` where the engine dies or is closed,
        and ``Aborted`` where ``abort`` has ended the sampling of ``group_id``."""
        if self._closed or self._broken:
            work.close()
            raise RoleDiedError(f"the vLLM engine of {self._worker} is {self._broken or 'closed'}")
        doing: Any = asyncio.run_coroutine_threadsafe(work, self._loop)
        if group_id is not None:
            self.under_way[group_id] = doing
        try:
            return doing.result()  # type: ignore[no-any-return]
        except concurrent.futures.CancelledError:
            if self._closed or self._broken or group_id is None:
                raise RoleDiedError(f"the vLLM engine of {self._worker} is {self._broken or 'closed'}") from None
        finally:
            if group_id is not None:
                self.under_way.pop(group_id, None)
        self._run(self._answer())  # if the core hangs, this never returns, and generate() does not either
        raise Aborted

    async def _answer(self) -> None:
        """Ask vLLM's core process for an answer, which it gives between two of its steps."""
        assert self._llm is not None
        await self._llm.is_sleeping()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _swap(self, version: int, path: str, also: dict[str, str]) -> float:
        """Pause, replace the weights by the file's, name the version and resume. Returns the seconds of the pause.
        ``also``: further names of tensors, each with the name that the file has for it."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        llm = self._llm
        assert llm is not None
        started = time.monotonic()
        try:
            falls = version < self.version
            await llm.pause_generation(mode="abort" if falls else "keep", clear_cache=falls or self._recompute)
            await llm.start_weight_update()
            await llm.update_weights(WeightTransferUpdateRequest(update_info={"path": path, "also": also}))
            await llm.finish_weight_update(weight_version=str(version))
            # The version is set before sampling resumes, so that no token is of a version above ``self.version``.
            self.version = version
            await llm.resume_generation()
        except Exception as error:
            # The layers are half old and half new, or still unallocated. Nothing may be sampled from them again, so
            # sampling stays paused, and whoever waits for a response is told.
            self._broken = f"unusable since version {version} failed to load"
            await _cancel_others()
            raise WeightsError(f"version {version} failed to load into vLLM: {last_line(error)}") from error
        return time.monotonic() - started

    async def _sample(self, ticket: Ticket) -> list[CompletionOutput]:
        """The ticket's G finished outputs in response order. They are started over where a falling version aborted
        them."""
        sampling = _sampling(ticket, self._end_tokens, ticket.seed, ticket.max_new_tokens, n=ticket.group_size)
        while True:
            outputs = await self._outputs(ticket, ticket.prompt_tokens_P.tolist(), sampling)
            if all(output.finish_reason != ABORTED for output in outputs):
                return outputs

    async def _turn(self, ticket: Ticket, prompt: list[int], seed: int, room: int) -> CompletionOutput:
        """One turn of a response: what is sampled behind ``prompt``, at most ``room`` tokens."""
        (output,) = await self._outputs(ticket, prompt, _sampling(ticket, self._end_tokens, seed, room))
        return output

    async def _outputs(self, ticket: Ticket, prompt: list[int], sampling: SamplingParams) -> list[CompletionOutput]:
        """A request's finished outputs."""
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        assert self._llm is not None
        name = f"{ticket.group_id}-{next(self._numbers)}"
        outputs: list[CompletionOutput] = []
        try:
            async for result in self._llm.generate(tokens_input(prompt), sampling, name):
                outputs = result.outputs
        except EngineDeadError:
            self._broken = "dead"
            # It is not chained: all callers share one exception object, whose trace grows with each of them.
            raise RoleDiedError(f"the vLLM engine of {self._worker} died; its last words are above") from None
        return outputs


def _sampling(ticket: Ticket, end_tokens: list[int], seed: int, longest: int, n: int = 1) -> SamplingParams:
    """The ticket as vLLM's sampling parameters, for at most ``longest`` tokens. vLLM gives ``n`` responses the seeds
    seed, seed + 1, …"""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        n=n,
        seed=seed,
        temperature=ticket.temperature,
        top_p=ticket.top_p,
        top_k=0,
        max_tokens=longest,
        ignore_eos=True,  # stop_token_ids has the end tokens, so that every engine has the same ones
        stop_token_ids=end_tokens,
        logprobs=0,  # only of the sampled token
        flat_logprobs=True,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _responses(ticket: Ticket, outputs: list[CompletionOutput], *, worker: str, seconds: float) -> Responses:
    """vLLM's outputs of one group as flat arrays."""
    assert len(outputs) == ticket.group_size
    tokens = [np.asarray(output.token_ids, dtype=np.uint32) for output in outputs]
    logprobs = [np.asarray(flat(output).logprobs, dtype=np.float32) for output in outputs]
    assert all(len(t) == len(p) for t, p in zip(tokens, logprobs, strict=True))
    spans = [
        (j, int(span.version), span.start, span.end)
        for j, output in enumerate(outputs)
        for span in output.weight_versions or ()
    ]
    return Responses(
        group_id=ticket.group_id,
        tokens_T=np.concatenate(tokens),
        logprobs_T=np.concatenate(logprobs),
        lengths_S=np.array([len(t) for t in tokens], dtype=np.uint32),
        finished_S=np.array([output.finish_reason == ENDED for output in outputs], dtype=np.uint8),
        spans=np.array(spans, dtype=np.uint32).reshape(-1, 4),
        worker=worker,
        seconds=seconds,
    )


def _transfer_folder(size: int) -> str:
    """A private folder with room for ``size`` bytes: in shared memory, or on disk where that is too small."""
    shared = Path("/dev/shm")
    # Containers often give /dev/shm 64 MB. A tenth is left free for vLLM's own queues.
    roomy = shared.is_dir() and shutil.disk_usage(shared).free > 1.1 * size
    return tempfile.mkdtemp(prefix="leeway-weights-", dir=shared if roomy else None)


def _tied(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The output projection's own name, with that of the embedding that it is tied to. A learner publishes a tied
    tensor once, but vLLM reloads its layers one by one, and each needs its own."""
    if "lm_head.weight" in tensors:
        return {}
    (embedding,) = (name for name in tensors if name.endswith(("embed_tokens.weight", "wte.weight")))
    return {"lm_head.weight": embedding}


def _write(path: str, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write one safetensors file. Tied tensors are written twice, because the format refuses shared ones."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    plain: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        plain[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    save_file(plain, path)


async def _cancel_others() -> None:
    """Cancel every other task on the loop that waits for a response, so that its caller does not wait forever."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
