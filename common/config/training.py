"""The sections on training: the model, and how to train. Every key has its default, meaning and checks."""

from typing import Annotated, Literal

from pydantic import Field

from ..errors import ConfigError
from ..limits import COLLECTIVE_TIMEOUT_S, MOST_COUNTED
from .section import Section

Loss = Literal["magic", "grpo", "pg", "gspo", "cispo", "dr_grpo", "dppo"]
Deviation = Literal["unbiased", "biased", "none", "batch"]
Baseline = Literal["mean", "leave_one_out", "batch"]
Level = Literal["token", "sequence", "geometric"]
Mask = Literal["none", "before", "after"]
Overflow = Literal["wait", "drop", "mask", "soft"]
CLIPPED = ("magic", "grpo", "gspo", "dr_grpo")
"""Losses with min(ρA, clip(ρ)·A)."""
PipelineDepth = int | Literal["auto"]

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
    groups_per_step: int = Field(ge=1)
    """D_R of the report: groups (prompts with a signal) in a training step's batch."""
    minibatch_groups: int | None = Field(default=None, ge=1)
    """D_T of the report: groups in one SGD update, in ticket order. By default D_R: one update a step."""
    reuse: int = Field(default=1, ge=1)
    """N_reuse of the report: how often a step goes through its batch. N_SGD = (D_R/D_T)·N_reuse updates."""
    group_size: int = Field(ge=2)
    """G of the report: responses to each prompt."""
    max_response_tokens: int = Field(ge=1)
    """T: longest response in tokens. One that reaches it without an end token is truncated and gets reward 0."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW's learning rate, which is constant (report: 1e-6)."""
    betas: tuple[float, float] = (0.9, 0.999)
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
    async_checkpoint: bool = True
    """Write checkpoints beside the next training steps, from a copy in the host's memory: 12 bytes a parameter over all
    ranks, 16 under ZeRO 1 and 2. Otherwise the next step waits until the checkpoint is written, and there is no
    copy."""
    ranks: int = Field(default=1, ge=1)
    """Learner processes, on all its nodes together; with GPUs each has one of its own (``placement.learner``)."""
    collective_timeout_s: float = Field(default=COLLECTIVE_TIMEOUT_S, gt=0, le=10**6)
    """Seconds after which an exchange of tensors between ranks counts as lost, and the learner ends. Batches,
    publications, checkpoints and downloads are waited for elsewhere (docs/cluster.md), so they do not count."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of each learner process."""

    @property
    def updates_per_step(self) -> int:
        """N_SGD (report 4.1)."""
        return self.groups_per_step // (self.minibatch_groups or self.groups_per_step) * self.reuse

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


class Objective(Section):
    loss: Loss = "magic"
    """``magic``: report 3.1, a mean over tokens. ``grpo``: report 2.4, a mean over responses of each one's mean over
    tokens. ``pg``: report 2.3, vanilla policy gradient, a mean over responses of each one's sum, never clipped. The
    others are the field's, by their papers' names: docs/magic.md has their formulas."""
    clip_low: float = Field(default=0.2, ge=0, le=1)
    """ε_low of the clipped ratio."""
    clip_high: float = Field(default=0.2, ge=0)
    """ε_high of the clipped ratio. Above ``clip_low`` it is clip-higher."""
    dual_clip: float | None = Field(default=None, gt=1)
    """c: where the advantage is negative, the policy term of a clipped loss is at least c·A, so that no ratio above c
    has a gradient (dual clip, arXiv 1912.09729)."""
    trust_region: float = Field(default=0.15, gt=0)
    """δ of ``dppo``: a token whose divergence from the anchor is larger has no gradient where it would move on."""
    trust_region_by: Literal["tv", "kl"] = "tv"
    """The divergence of ``dppo``: total variation or KL, of "this token or another one"."""
    advantage_baseline: Baseline = "mean"
    """What is subtracted from a reward: the mean of its group, the mean of the others in its group (RLOO), or the mean
    of the training step's batch (REINFORCE++)."""
    advantage_std: Deviation = "unbiased"
    """What that is divided by: the standard deviation of the group's rewards, which itself divides by G-1 (released
    code) or by G; nothing (Dr. GRPO, RLOO); or the standard deviation over the training step's batch (REINFORCE++)."""
    advantage_eps: float = Field(default=1e-6, ge=0)
    """Added to the standard deviation (released code: 1e-6)."""
    advantage_mask: Mask = "none"
    """What becomes of truncated responses (report 3.2.3). ``none``: they count like any other. ``before``: they get no
    advantage and stay out of the group's mean and std. ``after``: they get no advantage. With a mask, a group needs two
    untruncated responses to have a signal."""
    least_spread: float = Field(default=1e-6, ge=0)
    """A group has a signal where its highest and its lowest reward lie further apart than this."""
    kl_beta: float = Field(default=0.0, ge=0)
    """β of the k3 term against the initial model (report 2.4), which is held in memory only where β > 0."""
    kl_groups: Literal["signal", "all"] = "signal"
    """Groups that the k3 term runs over. ``all``: groups without a signal enter the batch too, for this term alone."""
    correction: Literal["none", "old", "decoupled", "loglinear"] = "none"
    """How stale data is corrected. ``none``: ratio π_θ/μ. ``old``: ratio π_θ/π_old, as the report and the released code
    have it, and no correction. ``decoupled``: the same ratio, weighted with π_old/μ. A forward pass before the first of
    several updates gives π_old. ``loglinear``: as ``decoupled``, but log π_old is interpolated by version."""
    correction_bound: Literal["truncate", "mask"] = "truncate"
    """What becomes of a weight π_old/μ: it is cut at ``correction_cap``, or is 0 outside ``correction_range``."""
    correction_cap: float = Field(default=2.0, gt=0)
    """C: largest weight of a token under ``truncate``."""
    correction_range: tuple[float, float] = (0.5, 5.0)
    """Weights that are kept under ``mask``: lowest, highest."""
    correction_level: Level = "token"
    """Of what π_old/μ is the weight of ``decoupled``: of the token, of its whole response (the product over its
    tokens), or the geometric mean over the response. The latter two take a forward pass before the first update."""

    @property
    def of_batch(self) -> bool:
        """Whether advantages depend on the rewards of the whole batch."""
        return "batch" in (self.advantage_baseline, self.advantage_std)

    def measures_first(self, updates: int) -> bool:
        """Whether a forward pass before the first of a step's ``updates`` has to find log π_old."""
        return updates > 1 or self.correction_level != "token"

    def ratio_passes(self, updates: int, reuse: int) -> float:
        """How many forward passes over the batch ratios of whole responses take, beside those of the updates. In a
        first update, over its part of the batch, the ratio to π_old is 1, and takes none."""
        if self.loss != "gspo":
            return 0.0
        return reuse if self.correction == "none" else reuse - reuse / updates

    def refuse_impossible(self, group_size: int) -> None:
        """``ConfigError`` if keys of this section contradict one another or the size of a group."""
        if self.advantage_mask != "none" and group_size < 3:
            raise ConfigError(
                f"objective.advantage_mask = {self.advantage_mask!r} needs train.group_size of at least 3: of "
                f"{group_size}, one truncated response leaves {group_size - 1}, and a mask needs 2"
            )
        if self.kl_groups == "all" and self.kl_beta == 0:
            raise ConfigError(
                "objective.kl_groups = 'all' with objective.kl_beta = 0: groups without a signal would enter the batch "
                "for a term of weight 0"
            )
        low, high = self.correction_range
        if not 0 <= low < high:
            raise ConfigError(f"objective.correction_range = [{low}, {high}]: expected 0 <= lowest < highest")
        if self.correction_level != "token" and self.correction != "decoupled":
            raise ConfigError(
                f"objective.correction_level = {self.correction_level!r} with objective.correction = "
                f"{self.correction!r}: only 'decoupled' has weights of whole responses"
            )
        if self.loss == "gspo" and self.correction in ("decoupled", "loglinear") and self.correction_level == "token":
            raise ConfigError(
                f"objective.loss = 'gspo' has one ratio a response, and objective.correction = {self.correction!r} "
                "weighs single tokens; take 'none' or 'old', or 'decoupled' with objective.correction_level = "
                "'sequence' or 'geometric'"
            )
        plain = type(self)()
        region = {key: getattr(self, key) for key in ("trust_region", "trust_region_by")}
        unused = {key: value for key, value in region.items() if value != getattr(plain, key)}
        if unused and self.loss != "dppo":
            key, value = next(iter(unused.items()))
            raise ConfigError(
                f"objective.{key} = {value!r} with objective.loss = {self.loss!r}: only 'dppo' has a trust region; "
                "take that loss, or leave the key out"
            )
        if self.dual_clip is not None and self.loss not in CLIPPED:
            raise ConfigError(
                f"objective.dual_clip with objective.loss = {self.loss!r}, which has no clip of that kind; it is for "
                + ", ".join(map(repr, CLIPPED))
            )
        if self.dual_clip is not None and self.dual_clip <= 1 + self.clip_high:
            raise ConfigError(
                f"objective.dual_clip = {self.dual_clip} with objective.clip_high = {self.clip_high}: expected more "
                "than 1 + clip_high"
            )


class Entropy(Section):
    control: Literal["none", "constant", "adaptive"] = "adaptive"
    """``adaptive``: the controller of report 3.2. ``constant``: α fixed at ``entropy.alpha``. ``none``: α = 0. The
    entropy is measured all the same."""
    alpha: float = Field(default=0.0, ge=0)
    """α of ``constant``."""
    rule: Literal["report", "scripts"] = "report"
    """The controller as the report states it, or as the released code runs it: one step late, down on equality."""
    target: float = Field(default=0.2, ge=0)
    """tgt in nats per token (report: 0.2). A live control: ``leeway set target-entropy``."""
    delta: float | None = Field(default=None, ge=0)
    """Δ, by which the coefficient changes. By default the rule's own: report 0.005, scripts 1e-4."""
    max_coefficient: float | None = Field(default=None, ge=0)
    """Largest coefficient. By default the rule's own: report no limit, scripts 5e-3."""
    estimate: Literal["exact", "sampled"] = "exact"
    """What e_k is: the full-vocabulary entropy of the policy on the batch, or -mean log π_old of the sampled tokens."""

    def refuse_impossible(self) -> None:
        """``ConfigError`` if the control and its coefficient contradict one another."""
        if (self.control == "constant") != (self.alpha > 0):
            raise ConfigError(
                f"entropy.control = {self.control!r} with entropy.alpha = {self.alpha}: "
                "'constant' needs an alpha above 0, and no other control uses it"
            )


class Flow(Section):
    max_staleness: int = Field(default=0, ge=0, le=MOST_COUNTED)
    """η: 0 is strictly on-policy. A live control: ``leeway set max-staleness``."""
    overflow: Overflow = "wait"
    """What gives way when a group is late. ``wait``: the learner, which takes the oldest live groups. The others take
    those that are ready; of what is older than the bound, ``drop`` refunds the group, ``mask`` leaves the tokens out
    of the loss, ``soft`` trains it and counts. A live control: ``leeway set overflow``."""
    pipeline_depth: Annotated[int, Field(ge=1, le=MOST_COUNTED)] | Literal["auto"] = "auto"
    """Most groups that may be live, beside the bound's (η+1)·B. ``auto``: the fewest at which the learner does not
    wait, by what is measured. A live control: ``leeway set pipeline-depth``."""
    inject_lag: int = Field(default=0, ge=0)
    """For studying a regime on any hardware: every group is sampled by exactly the version that is so many training
    steps older than the one that trains it (by version 0 in the first steps). Then nothing overlaps. At most
    ``max_staleness``."""
    least_ess: float = Field(default=0.0, ge=0, lt=1)
    """Guard: after a training step whose effective sample size (``logprob/ess``, of π_old/μ, as a share of the tokens)
    is lower, η goes down by one. After ``guard_patience`` steps in a row without, η goes up by one, until it is
    ``max_staleness`` again. 0: no guard."""
    guard_patience: int = Field(default=20, ge=1)
    """Training steps in a row without an alarm of the guard after which it raises η by one again."""
    strictly_on_policy: bool = False
    """Refuse all that is off-policy: a ``max_staleness`` above 0, now or by the dial, and several updates a step."""
    stage_change: Literal["finish", "refund"] = "finish"
    """What becomes of the work of a stage that ends. ``finish``: only groups that its steps will train are issued, and
    work of the next stage is issued ahead under the same bound. ``refund``: the queue stays full up to its last step,
    the rest is refunded as ``stage_ended``, and the next stage starts with an empty queue and every result of this
    one."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature τ; the learner's logits are divided by it too."""
    seed: int = Field(default=0, ge=0)
    """The run's seed. Together with a ticket's number it decides the prompt and every sampling seed."""
    reconsider_every: int | None = Field(default=None, ge=1)
    """Training steps after which ``data.drop_solved`` and ``data.prefer_half`` look at what was solved. Between two
    looks, nothing changes which prompts are drawn. By default 10."""

    def refuse_impossible(self, train: Train) -> None:
        """``ConfigError`` if the bound, the lag and the updates of a step contradict one another."""
        if self.strictly_on_policy and self.max_staleness > 0:
            raise ConfigError(
                f"flow.strictly_on_policy = true with flow.max_staleness = {self.max_staleness}: strictly on-policy is "
                "a max_staleness of 0"
            )
        if self.strictly_on_policy and train.updates_per_step > 1:
            per_update = train.minibatch_groups or train.groups_per_step
            raise ConfigError(
                f"flow.strictly_on_policy = true with train.groups_per_step {train.groups_per_step} / "
                f"train.minibatch_groups {per_update} x train.reuse {train.reuse} = {train.updates_per_step} updates a "
                "step: only the first is on-policy"
            )
        refuse_below_lag(self.max_staleness, self)
        if self.inject_lag > 0 and self.least_ess > 0:
            raise ConfigError(
                f"flow.least_ess = {self.least_ess} with flow.inject_lag = {self.inject_lag}: the guard would turn the "
                "bound below a lag that stays"
            )


def refuse_shallow(groups_per_step: int, depth: PipelineDepth) -> None:
    """``ConfigError`` if a pipeline depth could not hold one batch."""
    if depth != "auto" and depth < groups_per_step:
        raise ConfigError(
            f"flow.pipeline_depth = {depth} is below train.groups_per_step = {groups_per_step}: a training step takes "
            f"{groups_per_step} live groups, {groups_per_step - depth} more than may be live; 'auto' or at least "
            f"{groups_per_step} is right"
        )


def refuse_below_lag(max_staleness: int, flow: Flow) -> None:
    """``ConfigError`` if a bound would expire every group of an injected lag."""
    if max_staleness < flow.inject_lag:
        raise ConfigError(
            f"flow.max_staleness = {max_staleness} with flow.inject_lag = {flow.inject_lag}: every group would be "
            f"older than the bound; at least {flow.inject_lag} is right"
        )
