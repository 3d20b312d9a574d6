"""The sections on what is optimised: the loss with its advantages and corrections, and the entropy's control."""

from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from ..errors import ConfigError
from ..wording import guess
from .section import Section

Loss = Literal["magic", "grpo", "pg", "gspo", "cispo", "dr_grpo", "dppo", "dis"]
Deviation = Literal["unbiased", "biased", "none", "batch"]
Baseline = Literal["mean", "leave_one_out", "batch"]
Level = Literal["token", "sequence", "geometric"]
Mask = Literal["none", "before", "after"]
KlGroups = Literal["signal", "all"]
Control = Literal["none", "constant", "adaptive"]
CLIPPED = ("magic", "grpo", "gspo", "dr_grpo")
"""Losses with min(ρA, clip(ρ)·A)."""


class Objective(Section):
    loss: Loss | str = "magic"
    """``magic``: report 3.1, a mean over tokens. ``grpo``: report 2.4, a mean over responses of each one's mean over
    tokens. ``pg``: report 2.3, vanilla policy gradient, a mean over responses of each one's sum, never clipped. The
    others are the field's, by their papers' names: docs/reference/objectives.md has their formulas. A loss of yours is
    `path/to/file.py:function` or `package.module:function` (docs/how-to/own-loss.md). A path is relative to the preset
    that names it, or to the folder that ``--set`` is typed in."""
    loss_options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of a loss of yours."""
    loss_mean: Literal["tokens", "responses"] = "tokens"
    """What a loss of yours is the mean over: the tokens of the optimizer step (as ``magic`` is), or its responses, each
    with the mean over its tokens (as ``grpo`` is)."""
    loss_level: Level = "token"
    """Of what ``response_log_ratios`` is the log ratio, for a loss of yours that asks for it: of the whole response
    (``sequence``: the sum over its tokens), or the geometric mean over them (``geometric``). Both take a forward pass
    before each update. ``token``: there is none."""
    loss_digest: str | None = None
    """Digest of the code of a loss of yours, and of all modules of yours that it imports. `leeway up` and `leeway
    create` fill it in; a learner whose own code is different refuses to start. `any`: it does not look."""
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
    """β of the k3 term against the reference model (report 2.4), which is held in memory only where β > 0 or
    ``metrics.kl_every`` asks for it."""
    reference: str | None = None
    """The reference model: a folder or hub name, as ``model.path``, with the same tokens. By default ``model.path``,
    the initial model."""
    kl_groups: KlGroups = "signal"
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

    @field_validator("loss")
    @classmethod
    def _is_known(cls, loss: str) -> str:
        known = get_args(Loss)
        if loss in known or ":" in loss.strip(":"):
            return loss
        raise ValueError(
            f"expected one of {', '.join(known)}, or path/to/file.py:function or package.module:function for a loss of "
            "yours" + guess(loss, known)
        )

    @property
    def own_loss(self) -> bool:
        """Whether the loss is a function of the user's."""
        return self.loss not in get_args(Loss)

    @property
    def per_response(self) -> bool:
        """Whether a token's loss is divided by the length of its response."""
        return self.loss_mean == "responses" if self.own_loss else self.loss in ("grpo", "gspo")

    @property
    def ratio_level(self) -> Level:
        """Of what the loss takes a ratio that has to be known before the pass of an update: of whole responses, or of
        nothing (``token``)."""
        return "geometric" if self.loss == "gspo" else self.loss_level

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
        if self.ratio_level == "token":
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
        self._refuse_keys_of_another_loss()

    def _refuse_keys_of_another_loss(self) -> None:
        keys_of = {
            "only 'dppo' has a trust region; take that loss, or": (self.loss == "dppo", "trust_region trust_region_by"),
            "a loss of yours has its numbers from objective.loss_options;": (not self.own_loss, "clip_low clip_high"),
            "it is for a loss of yours;": (self.own_loss, "loss_options loss_mean loss_level loss_digest"),
        }
        plain = type(self)()
        for why, (taken, keys) in keys_of.items():
            for key in keys.split():
                if not taken and (value := getattr(self, key)) != getattr(plain, key):
                    raise ConfigError(
                        f"objective.{key} = {value!r} with objective.loss = {self.loss!r}: {why} leave the key out"
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
    control: Control = "adaptive"
    """``adaptive``: the controller of report 3.2. ``constant``: α fixed at ``entropy.alpha``. ``none``: α = 0. The
    entropy is measured all the same."""
    alpha: float = Field(default=0.0, ge=0)
    """α of ``constant``."""
    rule: Literal["report", "scripts"] = "report"
    """The controller as the report states it, or as the released code runs it: one step late, down on equality."""
    target: float = Field(default=0.2, ge=0)
    """tgt in nats per token (report: 0.2). A live control, ``leeway set target-entropy``, which then holds for
    every stage."""
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
