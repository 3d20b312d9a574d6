"""The section on how old the data may be, and what gives way."""

from typing import Annotated, Literal

from pydantic import Field

from ..errors import ConfigError
from ..limits import LEAST_TEMPERATURE, MOST_COUNTED
from .section import Section
from .training import Train

Overflow = Literal["wait", "drop", "mask", "soft"]
PipelineDepth = int | Literal["auto"]
MaxStaleness = int | Literal["auto"]


class Flow(Section):
    max_staleness: Annotated[int, Field(ge=0, le=MOST_COUNTED)] | Literal["auto"] = 0
    """η: 0 is strictly on-policy. ``auto``: it starts at 0 and rises while a version more brings more throughput than
    it costs, by what is measured. A live control: ``leeway set max-staleness``."""
    staleness_ceiling: int = Field(default=4, ge=1, le=MOST_COUNTED)
    """The largest η that ``max_staleness = "auto"`` may choose. Memory is counted for it."""
    staleness_period: int = Field(default=10, ge=2)
    """Training steps that ``auto`` measures before it turns η by one version, or leaves it."""
    staleness_price: float = Field(default=0.02, ge=0)
    """What each version of η costs under ``auto``, as a share of throughput: with 0.02, one that brings less than 2 %
    more training steps an hour is not kept, whatever else is measured."""
    ess_price: float = Field(default=1.0, ge=0)
    """What lost effective sample size (``logprob/ess``) costs under ``auto``: this times -ln ESS, as a share of
    throughput. With 1, ``auto`` weighs throughput times ESS."""
    entropy_price: float = Field(default=0.5, ge=0)
    """What lacking entropy costs under ``auto``: this times the share by which the policy's entropy is below
    ``entropy.target``, as a share of throughput. Counted with ``entropy.control = "adaptive"`` alone."""
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
    temperature: float = Field(default=1.0, ge=LEAST_TEMPERATURE)
    """Sampling temperature τ; the learner's logits are divided by it too. vLLM knows none lower: it samples at 0.01
    instead, which the learner would not."""
    seed: int = Field(default=0, ge=0)
    """The run's seed. Together with a ticket's number it decides the prompt and every sampling seed."""
    reconsider_every: int | None = Field(default=None, ge=1)
    """Training steps after which ``data.drop_solved`` and ``data.prefer_half`` look at what was solved. Between two
    looks, nothing changes which prompts are drawn. By default 10."""

    @property
    def first_bound(self) -> int:
        """η of the first training step."""
        return 0 if self.max_staleness == "auto" else self.max_staleness

    @property
    def largest_bound(self) -> int:
        """The largest η that the configuration allows; an operator may go beyond."""
        return self.staleness_ceiling if self.max_staleness == "auto" else self.max_staleness

    def refuse_impossible(self, train: Train) -> None:
        """``ConfigError`` if the bound, the lag and the updates of a step contradict one another."""
        if self.strictly_on_policy and self.max_staleness != 0:
            raise ConfigError(
                f"flow.strictly_on_policy = true with flow.max_staleness = {self.max_staleness!r}: strictly on-policy "
                "is a max_staleness of 0"
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


def refuse_below_lag(max_staleness: MaxStaleness, flow: Flow) -> None:
    """``ConfigError`` if a bound would expire every group of an injected lag."""
    if flow.inject_lag > 0 and max_staleness == "auto":
        raise ConfigError(
            f"flow.max_staleness = 'auto' with flow.inject_lag = {flow.inject_lag}: nothing overlaps under a lag, so "
            f"no bound brings throughput; a number of at least {flow.inject_lag} is right"
        )
    if max_staleness != "auto" and max_staleness < flow.inject_lag:
        raise ConfigError(
            f"flow.max_staleness = {max_staleness} with flow.inject_lag = {flow.inject_lag}: every group would be "
            f"older than the bound; at least {flow.inject_lag} is right"
        )
