"""The sections on training: the model, and how to train. Every key has its default, meaning and checks."""

from typing import Annotated, Literal

from pydantic import Field

from ..errors import ConfigError
from ..limits import COLLECTIVE_TIMEOUT_S, LONGEST_S, MOST_COUNTED, MOST_PROCESSES, MOST_RESPONSES, MOST_THREADS
from .section import Section

Schedule = Literal["constant", "linear", "cosine"]
Decay = Annotated[float, Field(ge=0, lt=1)]
LearningRateByEss = Literal["none", "sqrt", "linear"]
_LOWEST_ZERO_STAGE = {"none": 0, "optimizer": 1, "optimizer+parameters": 3}


class Model(Section):
    path: str
    """Folder in Hugging Face layout, or a hub name. ``{presets}`` stands for the presets folder of this install, and a
    leading ``~`` for the home of the user who reads it."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the learner's forward and backward pass: float32, or bfloat16 by autocast over float32 weights."""


class Train(Section):
    steps: int = Field(ge=1, le=10**9)
    """Training steps of the whole run, all stages together."""
    groups_per_step: int = Field(ge=1, le=MOST_COUNTED)
    """D_R of the report: groups (prompts with a signal) in a training step's batch."""
    minibatch_groups: int | None = Field(default=None, ge=1)
    """D_T of the report: groups in one SGD update, in ticket order. By default D_R: one update a step."""
    reuse: int = Field(default=1, ge=1)
    """N_reuse of the report: how often a step goes through its batch. N_SGD = (D_R/D_T)·N_reuse updates."""
    group_size: int = Field(ge=2, le=MOST_RESPONSES)
    """G of the report: responses to each prompt."""
    max_response_tokens: int = Field(ge=1)
    """T: longest response in tokens. One that reaches it without an end token is truncated and gets reward 0."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW's learning rate (report: 1e-6), which the schedule multiplies. A live control: ``leeway set
    learning-rate``."""
    warmup_steps: int = Field(default=0, ge=0)
    """Training steps over which the learning rate rises evenly: the k-th of them has k/``warmup_steps`` of it."""
    schedule: Schedule = "constant"
    """What becomes of the learning rate after the warm-up (report: constant). ``linear`` and ``cosine`` lead from all
    of it to ``final_share`` of it in the run's last step."""
    final_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the learning rate that ``linear`` and ``cosine`` end at."""
    learning_rate_by_ess: LearningRateByEss = "none"
    """Multiply each update's learning rate by the effective sample size of its responses as a share of their number
    (``linear``), or by the root of that (``sqrt``: VCPO, arXiv 2602.17616). It is of the weights π_old/μ of whole
    responses."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """AdamW's moment decays."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""
    grad_clip: float = Field(default=1.0, ge=0)
    """Largest global L2 norm of the gradient; 0 turns clipping off."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed's ZeRO stage."""
    offload: Literal["none", "optimizer", "optimizer+parameters"] = "none"
    """ZeRO-Offload: what lies in the host's memory. ``optimizer``: float32 master weights and moments, and the update
    runs on the host's cores (ZeRO 1 to 3). ``optimizer+parameters``: the weights between uses too (ZeRO 3)."""
    micro_batch_tokens: int = Field(default=16384, ge=1)
    """Token budget of one forward and backward pass, prompts included. The step's result does not depend on it."""
    attention: Literal["auto", "sdpa", "varlen", "flash"] = "auto"
    """How the learner computes attention. ``sdpa``: torch's own, response by response; the reference, and what a CPU
    does under ``auto``. ``varlen``: all responses in one call of torch's kernel; ``flash``: of FlashAttention's. Both
    need a GPU and bfloat16; a GPU takes the first that is there under ``auto``."""
    logits_memory: float = Field(default=0.05, gt=0, le=0.5)
    """Share of a GPU's memory, of what is free once everything is loaded, that the logits of one chunk and what is
    computed from them may take. More gives larger matrix products. On the CPU a chunk has 2^25 logits."""
    bfloat16: Literal["autocast", "weights"] = "autocast"
    """How ``model.dtype = "bfloat16"`` is computed. ``autocast``: over float32 weights, which are cast at each use.
    ``weights``: DeepSpeed's bfloat16 mode, in which the weights themselves are bfloat16 and the optimizer has float32
    masters of them; gradients add up in float32. Less memory and fewer casts; it needs ZeRO 1 to 3."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    offload_activations: bool = False
    """Keep the inputs of checkpointed layers in the host's memory between the passes: for long responses of large
    models. It needs ``gradient_checkpointing``."""
    checkpoint_every: int = Field(default=20, ge=1)
    """Steps between checkpoints; the last step always makes one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints to keep."""
    keep_best: str | None = Field(default=None, min_length=1)
    """Keep, beside the newest, the checkpoint with the highest avg@n on this benchmark, by what a follower of the run
    (``leeway eval follow RUN``) finds, and those that it is still evaluating."""
    hours: float | None = Field(default=None, gt=0)
    """Hours that the run's learner may be at work, over all its starts together and from when it has loaded the model.
    Then it finishes its step, writes a checkpoint, and the run ends. Work that a crash undid does not count. More of
    them, by ``leeway up --resume --set train.hours``, go on with it."""
    async_checkpoint: bool = True
    """Write checkpoints beside the next training steps, from a copy in the host's memory: 12 bytes a parameter over all
    ranks, 16 under ZeRO 1 and 2. Otherwise the next step waits until the checkpoint is written, and there is no
    copy."""
    ranks: int = Field(default=1, ge=1, le=MOST_PROCESSES)
    """Learner processes, on all its nodes together; with GPUs each has one of its own (``placement.learner``)."""
    collective_timeout_s: float = Field(default=COLLECTIVE_TIMEOUT_S, gt=0, le=LONGEST_S)
    """Seconds after which an exchange of tensors between ranks counts as lost, and the learner ends. Batches,
    publications, checkpoints and downloads are waited for elsewhere (docs/how-to/shared-files.md), so they do not
    count."""
    threads: int = Field(default=1, ge=1, le=MOST_THREADS)
    """CPU threads of each learner process."""

    @property
    def updates_per_step(self) -> int:
        """N_SGD (report 4.1)."""
        return self.groups_per_step // (self.minibatch_groups or self.groups_per_step) * self.reuse

    def refuse_impossible_schedule(self) -> None:
        """``ConfigError`` if the learning rate's schedule does not fit the run."""
        if self.warmup_steps >= self.steps and self.warmup_steps > 0:
            raise ConfigError(
                f"train.warmup_steps = {self.warmup_steps} with train.steps = {self.steps}: the run would end before "
                f"its warm-up; at most {self.steps - 1} is right"
            )
        if self.schedule == "constant" and self.final_share != type(self).model_fields["final_share"].default:
            raise ConfigError(
                f"train.final_share = {self.final_share:g} with train.schedule = 'constant': a constant learning rate "
                "ends as it was; 'linear' or 'cosine' has a final share, or leave the key out"
            )

    def refuse_too_small(self, max_prompt_tokens: int) -> None:
        """``ConfigError`` if a pass, a rank's share of a step or the ZeRO stage is too small for the other keys."""
        longest = max_prompt_tokens + self.max_response_tokens
        if self.micro_batch_tokens < longest:
            raise ConfigError(
                f"train.micro_batch_tokens = {self.micro_batch_tokens} cannot hold one longest response: "
                f"data.max_prompt_tokens {max_prompt_tokens} + train.max_response_tokens "
                f"{self.max_response_tokens} = {longest}"
            )
        if self.ranks > self.groups_per_step * self.group_size:
            raise ConfigError(
                f"train.ranks = {self.ranks} is more than the {self.groups_per_step} x "
                f"{self.group_size} responses of a step (train.groups_per_step x train.group_size)"
            )
        if self.zero_stage < _LOWEST_ZERO_STAGE[self.offload]:
            raise ConfigError(
                f"train.offload = {self.offload!r} with train.zero_stage = {self.zero_stage}: it needs a zero_stage of "
                f"at least {_LOWEST_ZERO_STAGE[self.offload]}"
            )
        if self.offload_activations and not self.gradient_checkpointing:
            raise ConfigError(
                "train.offload_activations = true with train.gradient_checkpointing = false: every activation would go "
                "through the host's memory; gradient_checkpointing = true is right"
            )
        if self.bfloat16 == "weights" and self.zero_stage == 0:
            raise ConfigError(
                "train.bfloat16 = 'weights' with train.zero_stage = 0: DeepSpeed keeps float32 masters under ZeRO 1 to "
                "3 alone; 'autocast', or a zero_stage of at least 1, is right"
            )

    def refuse_uneven(self) -> None:
        """``ConfigError`` if a step is not a whole number of updates."""
        per_update = self.minibatch_groups or self.groups_per_step
        if self.groups_per_step % per_update:
            raise ConfigError(
                f"train.minibatch_groups = {per_update} does not divide train.groups_per_step = "
                f"{self.groups_per_step}: {self.groups_per_step} = {self.groups_per_step // per_update} x {per_update} "
                f"+ {self.groups_per_step % per_update}"
            )
