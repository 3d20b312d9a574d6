"""The policy being trained, under DeepSpeed: its passes, its updates, and what a checkpoint or a publication takes."""

import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..common.config import Config
from ..common.errors import DataError
from . import sums
from .clipping import clip_gradients, finite
from .deepspeed_import import deepspeed_package
from .engine_settings import adamw, deepspeed_settings, set_rate
from .files import TAG, Files, Writing, meeting_after_files
from .gathering import copy_group, groups_of, shape_of
from .gradient_cosine import GradientCosine
from .model import load_on_ranks
from .objective.token_op import LossOf, TokenOutput, chunk_elements_on
from .packing import MicroBatch
from .ranks import join_ranks, raise_together, reference_device
from .reference import SETTINGS, Reference

_CPU = torch.device("cpu")
OWN = ("lr", "betas", "eps", "weight_decay", "fused")
"""What the optimizer goes by that is this learner's, whatever the checkpoint says: its configuration may differ from
that of the run that wrote it (``fork.py``), and it chooses its own kernel."""


class Policy:
    """``PolicyModule`` under DeepSpeed, on this rank. Every method is collective: all ranks call it together."""

    def __init__(self, config: Config) -> None:
        """Join the other ranks and load the model. One process needs no launcher; several are started by torchrun
        or ``deepspeed``. Raises ``DataError`` as ``load_on_ranks`` does."""
        join_ranks(config.train.collective_timeout_s)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.config = config
        self.stage = config.train.zero_stage
        self.device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else _CPU
        share_out = deepspeed_settings(config) if self.stage == 3 else None
        self.module = load_on_ranks(config, self.device, share_out)
        self.engine = self._engine()
        self.gradients = GradientCosine(self.adamw) if config.metrics.gradient_cosine else None
        self.engine.checkpoint_engine = self._files = Files(self.engine.checkpoint_engine)
        self.engine._copy_recovery_script = lambda _: None  # nobody needs it, and it would fail on a full disk
        self.references = {path: self._refer_to(path) for path in config.references}
        self.reference: Reference | None = None
        """That of the stage, where it has one."""
        self._size_chunks()
        self.enter(config)

    def _refer_to(self, path: str) -> Reference:
        own = self.config.placement.reference == "own"
        device = reference_device(self.device, own=own)
        share_out = SETTINGS if self.world > 1 and not own else None
        module = load_on_ranks(self.config.of_model(path), device, share_out)
        return Reference(module, device, deepspeed_package() if share_out else None)

    def _size_chunks(self) -> None:
        """Cut the token op's chunks to the memory that is left once everything is loaded."""
        vocabulary = self.module.language_model.config.get_text_config().vocab_size
        references = [(each.module, each.device) for each in self.references.values()]
        for module, device in [(self.module, self.device), *references]:
            module.chunk_elements = chunk_elements_on(device, vocabulary, self.config.train.logits_memory)

    def _engine(self) -> Any:
        deepspeed, settings = deepspeed_package(), deepspeed_settings(self.config)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):  # in bfloat16 it prints memory at every step
            engine, *_ = deepspeed.initialize(
                model=self.module, optimizer=adamw(self.module, self.config), config=settings, dist_init_required=False
            )
        engine.train(self.config.train.gradient_checkpointing)
        if self.stage == 3:
            meeting_after_files(engine.optimizer)
        return engine

    def __call__(self, batch: MicroBatch, loss_of: LossOf | None = None) -> TokenOutput:
        """``PolicyModule.forward`` on this rank's device."""
        return self.engine(batch.to(self.device), loss_of)

    def enter(self, view: Config) -> None:
        """Go from now on by ``view``, the configuration as it is in the stage of a training step: its τ, of π_θ and of
        π_ref, and its reference."""
        self.module.temperature = view.flow.temperature
        self.reference = self.references.get(view.reference)
        if self.reference is not None:
            self.reference.module.temperature = view.flow.temperature

    def with_reference(self, batch: MicroBatch) -> MicroBatch:
        """``batch`` with log π_ref, in a stage that has a reference."""
        assert self.reference is not None, "the configuration asks for no reference"
        return self.reference.with_logprobs(batch)

    def backward(self, loss_sum: Tensor, *, denominator: int, last: bool) -> None:
        """Add the gradient of ``loss_sum / denominator``, all ranks' denominator. ``last`` ends the optimizer step.

        All ranks make the same number of calls in a step, because ZeRO stages 2 and 3 exchange gradients in each.
        """
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed averages gradients over the ranks, and the loss needs their sum.
        self.engine.backward(loss_sum * (self.world / denominator))

    def learn_at(self, rate: float) -> None:
        """Update at this learning rate from now on."""
        set_rate(self.adamw, rate)

    def step(self) -> float:
        """Clip, update the weights and drop the gradients. Returns the global gradient norm before clipping.

        Raises ``FloatingPointError`` where that is not finite; the newest checkpoint is then the last good state.
        """
        if self.stage == 0:
            norm = clip_gradients(self.module, self.config.train.grad_clip)
            self.engine.step()
            return norm
        self.engine.step()
        return finite(float(self.engine.get_global_grad_norm()))

    def reduce(self, values: Tensor, *, largest: bool = False) -> Tensor:
        """Element-wise sum (or maximum) of a float64 or int64 CPU tensor over the ranks, on the CPU."""
        values = values.to(self.device)
        dist.all_reduce(values, op=dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
        return values.cpu()

    def named_weights(self) -> dict[str, Tensor]:
        """A copy of all weights by Hugging Face name, float32 on the CPU; tied weights appear once. Only rank 0 gets
        them; the other ranks get an empty dict."""
        weights = {name: torch.empty(shape) for name, shape in self.shapes().items()} if self.rank == 0 else {}
        self.copy_weights(weights if self.rank == 0 else None)
        return weights

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every weight by Hugging Face name; tied weights appear once."""
        return {name: shape_of(parameter) for name, parameter in self.module.named_weights().items()}

    def copy_weights(self, into: dict[str, Tensor] | None) -> None:
        """Copy every weight to its tensor in ``into`` on the CPU, cast on this device. Others than rank 0 pass None."""
        gathered = deepspeed_package().zero.GatheredParameters
        for group in groups_of(self.module.named_weights()):
            with gathered(list(group.values()), enabled=self.stage == 3):
                if into is not None:
                    copy_group(group, into)

    def snapshot(self, *, copied: bool) -> Writing:
        """What a checkpoint holds of this rank: weights and optimizer as they are now. Returns what writes it; that is
        not collective, and may be called by another thread and more than once. ``copied``: hold a copy in the host's
        memory, so that training may go on before it is written. Raises torch's ``RuntimeError`` where there is no
        memory for it, once all ranks are out of DeepSpeed's collectives."""
        self._files.begin(copied=copied)
        self.engine.save_checkpoint(".", tag=TAG, save_latest=False)
        return self._files.end()

    def load(self, folder: Path, *, universal: bool = False) -> None:
        """Read into a policy that has not stepped what a snapshot wrote under the same ZeRO stage and number of ranks.
        With ``universal``, read what DeepSpeed has converted from another ZeRO stage or number of ranks.

        Raises ``DataError`` on every rank where one rank finds nothing to read.
        """
        own = [{name: group[name] for name in OWN if name in group} for group in self.adamw.param_groups]
        # DeepSpeed reads this only when it loads. Which kind it has to load is known only after the engine is made.
        self.engine._config.load_universal_checkpoint = universal
        try:
            loaded, _ = self.engine.load_checkpoint(str(folder), tag=TAG)
        finally:
            self.engine._config.load_universal_checkpoint = False
        if self.stage == 0:
            for state in self.adamw.state.values():  # let go of the file, which holds the moments too
                state.update({key: value.clone() for key, value in state.items()})
        if universal:
            for state in self.adamw.state.values():
                state["step"] = state["step"].clone()  # ZeRO stage 3 gives every part the same counter
        for group, chosen in zip(self.adamw.param_groups, own, strict=True):
            group.update(chosen)
        nothing = DataError(f"checkpoint {folder} holds no weights and optimizer of this rank ({TAG}/)")
        raise_together(nothing if loaded is None else None)

    @property
    def adamw(self) -> torch.optim.AdamW:
        """torch's optimizer, without ZeRO's wrapper."""
        return getattr(self.engine.optimizer, "optimizer", self.engine.optimizer)

    def sums(self) -> dict[str, Any]:
        """The bit sums of weights and optimizer state (``sums.of``)."""
        return sums.of(self.module, self.adamw, self.stage)
