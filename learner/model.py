"""The model being trained: a causal language model whose head is the token op. It needs torch and transformers only,
until its weights are shared out by DeepSpeed's ZeRO stage 3."""

from typing import Any

import torch
from torch import Tensor, nn

from ..common.config import Config
from ..common.preflight.architecture import logits_divisor
from .alike import refuse_different_models
from .deepspeed_import import deepspeed_package, name_accelerator
from .engine_settings import weights_dtype
from .gathering import weights_of
from .host_copies import kept_on_host
from .loading import Unread, open_language_model
from .objective.token_op import CHUNK_ELEMENTS, LossOf, TokenOutput, token_op
from .packing import MicroBatch
from .ranks import together


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
        ``plain``: as transformers alone computes it, which a check at the start compares."""
        device = batch.input_ids_L.device.type
        # A pass uses every weight once: autocast's cache of casts would only keep a second model until its end.
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast, cache_enabled=False):
            if plain:
                return self._by_transformers(batch)
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

    def _by_transformers(self, batch: MicroBatch) -> TokenOutput:
        """What ``forward`` gives for a row of one response, by transformers' own attention and from whole logits, as
        the model's code makes them."""
        model = self.language_model
        ours = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            logits_LV = model(
                input_ids=batch.input_ids_L[None], position_ids=batch.position_ids_L[None], use_cache=False
            ).logits[0]
        finally:
            model.set_attn_implementation(ours)
        log_softmax_TV = (logits_LV[batch.targets_T].float() / self.temperature).log_softmax(-1)
        logprobs_T = log_softmax_TV.gather(-1, batch.taken_T[:, None])[:, 0]
        return TokenOutput(None, logprobs_T, -(log_softmax_TV.exp() * log_softmax_TV).sum(-1))

    def named_weights(self) -> dict[str, Tensor]:
        """``weights_of`` the language model."""
        return weights_of(self.language_model)


def open_module(config: Config) -> tuple[PolicyModule, Unread]:
    """The configured model with dropout off, and its weights, which are still to be read. They are float32, or bfloat16
    under ``train.bfloat16 = "weights"``; what is no weight, as the frequencies of rotary positions, is float32. Raises
    ``DataError`` where there is no such model or it cannot be trained here."""
    name_accelerator()
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
    unread.make_room(torch.device("cpu"))
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
        zero = deepspeed_package().zero
        how = {"config_dict_or_path": share_out, "dtype": next(module.parameters()).dtype}
        unread.share_out(module, device, lambda each: zero.Init(module=each, **how))
    together(unread.read)
    return module.to(device)
