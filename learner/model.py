"""The policy being trained: a causal language model whose head is the token op, and its DeepSpeed engine.

``PolicyModule`` and ``load_module`` need torch and transformers only; ``Policy`` brings in DeepSpeed, which
is imported late because that takes seconds.
"""

import os
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..common.config import Config
from ..common.errors import DataError
from ..common.large_imports import large_import
from ..common.preflight.architecture import logits_divisor
from . import reference, sums
from .alike import refuse_different_models
from .checkpoint import TAG
from .engine_settings import adamw, deepspeed_settings, set_rate, weights_dtype
from .files import Files, Writing, meeting_after_files
from .gathering import copy_group, groups_of, shape_of, weights_of
from .gradient_cosine import GradientCosine
from .host_copies import kept_on_host
from .loading import Unread, open_language_model
from .objective.token_op import CHUNK_ELEMENTS, LossOf, TokenOutput, chunk_elements_on, token_op
from .packing import MicroBatch
from .ranks import join_ranks, raise_together, reference_device, together
from .untried import by_transformers


class TokenHead(nn.Module):
    """Replaces the model's output projection and keeps its parameters under their old names (tied or not).

    It is a module of its own, and not a function that is given the weight, because ZeRO stage 3 gathers parameters when
    the module that owns them is called.
    """

    def __init__(self, projection: nn.Linear) -> None:
        super().__init__()
        self.weight = projection.weight
        self.bias = projection.bias

    def forward(self, hidden_TH: Tensor, taken_T: Tensor | None = None, **how: Any) -> Any:
        """A ``TokenOutput``; the logits, where no taken tokens are given, as transformers' own code calls it."""
        if taken_T is None:
            return nn.functional.linear(hidden_TH, self.weight, self.bias)
        return token_op(hidden_TH, self.weight, taken_T, bias_V=self.bias, **how)


class PolicyModule(nn.Module):
    """Takes a micro-batch and returns a ``TokenOutput``. It works as a plain torch module."""

    def __init__(self, language_model: Any, *, temperature: float, autocast: bool) -> None:
        """``language_model``: a transformers causal LM; its output embedding is replaced. ``temperature``: τ, which
        logits are divided by; the attribute may be set anew, as may ``chunk_elements``, how many logits the token op
        holds at a time, and ``keep_on_host``: keep what checkpointed layers save in the host's memory.
        ``autocast``: compute in bfloat16 by autocast, over float32 weights.
        """
        super().__init__()
        name = next(n for n, m in language_model.named_modules() if m is language_model.get_output_embeddings())
        language_model.set_submodule(name, TokenHead(language_model.get_output_embeddings()))
        self.language_model = language_model
        self.body = language_model.base_model_prefix
        self.head = name
        self.temperature = temperature
        self.chunk_elements = CHUNK_ELEMENTS
        self.autocast = autocast
        self.keep_on_host = False
        self.logits_divisor = logits_divisor(language_model.config.to_dict())

    def forward(self, batch: MicroBatch, loss_of: LossOf | None = None, *, plain: bool = False) -> TokenOutput:
        """Log-probability and entropy of the T target tokens, and the sum of ``loss_of`` over them if it is given.
        ``plain``: as ``by_transformers``, which a check at the start compares."""
        device = batch.input_ids_L.device.type
        # A pass uses every weight once: autocast's cache of casts would only keep a second model until its end.
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            if plain:
                return by_transformers(self, batch)
            with kept_on_host(self.keep_on_host):
                hidden_LH = getattr(self.language_model, self.body)(
                    input_ids=batch.input_ids_L[None],
                    position_ids=batch.position_ids_L[None],
                    use_cache=False,
                    layout=batch.layout,  # for packed_attention
                ).last_hidden_state[0]
            hidden_TH = hidden_LH[batch.targets_T]
            head = self.language_model.get_submodule(self.head)
            return head(
                hidden_TH,
                batch.taken_T,
                temperature=self.temperature * self.logits_divisor,
                loss_of=loss_of,
                chunk_elements=self.chunk_elements,
            )

    def named_weights(self) -> dict[str, Tensor]:
        """``weights_of`` the language model."""
        return weights_of(self.language_model)


def open_module(config: Config) -> tuple[PolicyModule, Unread]:
    """The configured model with dropout off, and its weights, which are still to be read. They are float32, or bfloat16
    under ``train.bfloat16 = "weights"``; what is no weight, as the frequencies of rotary positions, is float32. Raises
    ``DataError`` where there is no such model or it cannot be trained here."""
    _name_accelerator()
    model, unread = open_language_model(config, weights_dtype(config))
    by_autocast = config.model.dtype == "bfloat16" and config.train.bfloat16 == "autocast"
    module = PolicyModule(model, temperature=config.flow.temperature, autocast=by_autocast)
    module.eval()
    if config.train.gradient_checkpointing:
        # ZeRO stage 3 empties parameters between passes, and non-reentrant checkpointing compares their shapes.
        reentrant = config.train.zero_stage == 3
        model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        module.train()
        module.keep_on_host = config.train.offload_activations
    return module, unread


def load_module(config: Config) -> PolicyModule:
    """``open_module`` with its weights read, whole, on the CPU."""
    module, unread = open_module(config)
    unread.make_room(_CPU)
    unread.read()
    return module


def load_on_ranks(config: Config, device: torch.device, share_out: dict[str, Any] | None) -> PolicyModule:
    """``open_module`` with its weights read onto ``device``: whole on every rank, or with ``share_out`` (DeepSpeed's
    settings, of ZeRO stage 3) each rank's own part of them. Collective.

    Raises ``DataError`` on every rank where ``open_module`` raises it on one, and where the ranks' models differ.
    """
    module, unread = together(lambda: open_module(config))
    refuse_different_models(unread.files, module.language_model.config.to_dict())
    if share_out is None:
        unread.make_room(device)
    else:
        zero = _deepspeed().zero
        how = {"config_dict_or_path": share_out, "dtype": next(module.parameters()).dtype}
        unread.share_out(module, device, lambda each: zero.Init(module=each, **how))
    together(unread.read)
    return module.to(device)


def clip_gradients(module: nn.Module, max_norm: float) -> float:
    """Scale the gradients down to the global L2 norm ``max_norm`` (0: leave them) and return the norm they had.

    Raises ``FloatingPointError`` where it is not finite: a step with it would destroy the weights.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
    if max_norm > 0:
        norm = float(nn.utils.clip_grad_norm_(parameters, max_norm))
    else:
        norm = float(
            nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        )
    return _finite(norm)


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
        self.reference: reference.Reference | None = None
        """That of the stage, where it has one."""
        self._size_chunks()
        self.enter(config)

    def _refer_to(self, path: str) -> reference.Reference:
        own = self.config.placement.reference == "own"
        device = reference_device(self.device, own=own)
        share_out = reference.SETTINGS if self.world > 1 and not own else None
        module = load_on_ranks(self.config.of_model(path), device, share_out)
        return reference.Reference(module, device, _deepspeed() if share_out else None)

    def _size_chunks(self) -> None:
        """Cut the token op's chunks to the memory that is left once everything is loaded."""
        vocabulary = self.module.language_model.config.get_text_config().vocab_size
        references = [(each.module, each.device) for each in self.references.values()]
        for module, device in [(self.module, self.device), *references]:
            module.chunk_elements = chunk_elements_on(device, vocabulary, self.config.train.logits_memory)

    def _engine(self) -> Any:
        deepspeed, settings = _deepspeed(), deepspeed_settings(self.config)
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
        return _finite(float(self.engine.get_global_grad_norm()))

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
        gathered = _deepspeed().zero.GatheredParameters
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


def saved_weights(folder: Path, zero_stage: int) -> dict[str, Tensor]:
    """The weights that ``Policy.snapshot`` wrote under ``zero_stage`` on any number of ranks: float32 on the CPU, by
    Hugging Face name.

    One process reads them, without an engine. Up to ZeRO stage 2, rank 0's file has the whole weights, and they stay on
    disk until they are used. Under ZeRO stage 3 every rank's file has a part, and DeepSpeed's own ``zero_to_fp32`` puts
    the parts together in memory. Under ``train.bfloat16 = "weights"`` the former are in
    bfloat16, and the latter are their masters.
    """
    _name_accelerator()
    if zero_stage < 3:
        file = folder / TAG / "mp_rank_00_model_states.pt"
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["module"]
    else:
        _deepspeed()
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

        # It reports its progress on both streams.
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            found = get_fp32_state_dict_from_zero_checkpoint(str(folder), tag=TAG)
    return {name.removeprefix("language_model."): tensor for name, tensor in found.items()}


def _name_accelerator() -> None:
    """Name DeepSpeed's accelerator. Call it before deepspeed is imported, which transformers does too: deepspeed warns
    where it has to guess."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _deepspeed() -> Any:
    _name_accelerator()
    with large_import():
        import deepspeed
        import deepspeed.ops
        from deepspeed.utils import logger

    logger.setLevel("ERROR")
    if not torch.cuda.is_available():
        # Otherwise DeepSpeed compiles a C++ extension for shared-memory inference at the first start. That takes
        # minutes and a compiler, and nothing here calls it.
        deepspeed.ops.__compatible_ops__ = {}
    # DeepSpeed 0.19 calls torch 2.13's collectives by their former names, and its imports do so with torch.jit.
    warnings.filterwarnings("ignore", r"`torch\.(distributed|jit)\.\w+` is deprecated", Warning)
    if dist.is_initialized():
        # DeepSpeed would make a group of its own, with torch's time-out and not ours.
        deepspeed.utils.groups._WORLD_GROUP = dist.group.WORLD
    return deepspeed


def _finite(norm: float) -> float:
    if norm != norm or norm in (float("inf"), float("-inf")):
        raise FloatingPointError(f"the gradient norm is {norm}: log-probabilities or weights have overflowed")
    return norm


_CPU = torch.device("cpu")
