"""The whole configuration: its sections, its stages, and what depends on several sections together."""

import bisect
import itertools
from typing import Annotated, Any, Self, get_args

from pydantic import Discriminator, Tag, model_validator

from ..errors import ConfigError
from ..rewards import ENVIRONMENT
from .checkpoints import Checkpoints
from .data import Data, judging, named, refuse_impossible_shares, refuse_impossible_sources, source_named
from .environment import Environment
from .flow import Flow, refuse_shallow
from .objective import Entropy, Objective
from .placement import Placement
from .rewards import Reward, refuse_impossible_rewards
from .section import Section
from .serving import Broker, Metrics, Rollout, Verifier, Weights
from .stages import Stage
from .training import Model, Train

_ONE, _SEVERAL = "[data]", "[[data]]"
Sources = Annotated[
    Annotated[Data, Tag(_ONE)] | Annotated[tuple[Data, ...], Tag(_SEVERAL)],
    Discriminator(lambda value: _SEVERAL if isinstance(value, (list, tuple)) else _ONE),
]
"""One source of prompts, ``[data]``, or several, ``[[data]]``. The tags stand in the places of pydantic's errors."""
TAGS = frozenset([_ONE, _SEVERAL])


class Config(Section):
    model: Model
    data: Sources
    train: Train
    checkpoints: Checkpoints = Checkpoints()
    objective: Objective = Objective()
    entropy: Entropy = Entropy()
    flow: Flow = Flow()
    weights: Weights = Weights()
    rollout: Rollout = Rollout()
    placement: Placement = Placement()
    verifier: Verifier = Verifier()
    broker: Broker = Broker()
    metrics: Metrics = Metrics()
    stages: tuple[Stage, ...] = ()
    rewards: tuple[Reward, ...] = ()
    environment: Environment | None = None

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """First training step of every stage; that of stage 0 is 0."""
        return (0, *(stage.from_step for stage in self.stages))

    def stage_of(self, step: int) -> int:
        """The stage that training step ``step`` belongs to."""
        return bisect.bisect_right(self.stage_starts, step) - 1

    def at_stage(self, stage: int) -> Self:
        """The same configuration with every key that a stage may change as it is in stage ``stage``."""
        now = dict[str, Any]()
        for change in self.stages[:stage]:
            for name, keys in change.changes().items():
                now[name] = now.get(name, getattr(self, name)).model_copy(update=keys)
            if change.shares:
                now["data"] = _with_shares(now.get("data", self.sources), change.shares)
        return self.model_copy(update=now)

    def views(self) -> list[Self]:
        """``at_stage`` of every stage."""
        return [self.at_stage(stage) for stage in range(len(self.stage_starts))]

    @property
    def reference(self) -> str:
        """The reference model, as its key has it. It is loaded only if it is among ``references``."""
        return self.objective.reference or self.model.path

    @property
    def references(self) -> tuple[str, ...]:
        """The reference models of all stages, each once: of their KL terms, or to measure the divergence from them. A
        learner holds them from its start to its end."""
        held = [view.reference for view in self.views() if view.objective.kl_beta > 0 or self.metrics.kl_every > 0]
        return tuple(dict.fromkeys(held))

    def of_model(self, path: str) -> Self:
        """The same configuration of another model."""
        return self.model_copy(update={"model": self.model.model_copy(update={"path": path})})

    @property
    def sources(self) -> tuple[Data, ...]:
        """Where the prompts come from: the one source ``[data]``, or those of ``[[data]]`` in their order."""
        return (self.data,) if isinstance(self.data, Data) else self.data

    @property
    def source(self) -> Data:
        """The one source of prompts. ``ConfigError`` where there are several."""
        if len(self.sources) == 1:
            return self.sources[0]
        names = ", ".join(str(source.name) for source in self.sources)
        raise ConfigError(f"data: there are several sources ({names}), and this takes one; give it one as [data]")

    def source_of(self, prompt_id: str) -> Data:
        """The source of a prompt; of several, its id begins with the source's name."""
        if len(self.sources) == 1:
            return self.sources[0]
        return next(source for source in self.sources if source.name == source_named(prompt_id))

    @property
    def source_names(self) -> tuple[str, ...]:
        """The names of the sources, where there are several; else empty."""
        return tuple(str(source.name) for source in self.sources) if len(self.sources) > 1 else ()

    @property
    def shares(self) -> tuple[float, ...]:
        """Each source's part of the tickets; they add up to 1."""
        shares = [_share(source) for source in self.sources]
        return tuple(share / sum(shares) for share in shares)

    def alone(self, source: Data) -> Self:
        """The same configuration with ``source`` as its only one, judged by its own rewards."""
        data = source.model_copy(update={"name": None, "share": None, "rewards": None})
        stages = tuple(stage.model_copy(update={"shares": None}) for stage in self.stages)
        flow = self.flow if source.reconsidered else self.flow.model_copy(update={"reconsider_every": None})
        now = {"data": data, "rewards": self.rewards_of(source), "stages": stages, "flow": flow}
        return self.model_copy(update=now)

    def rewards_of(self, source: Data) -> tuple[Reward, ...]:
        """What judges rows of ``source`` beside their ability."""
        return judging(source, self.rewards)

    def against_reference(self, step: int) -> bool:
        """Whether training step ``step``, in the stage that this view is of, takes a forward pass of the reference
        model, for its KL term or to measure the divergence from it."""
        return self.objective.kl_beta > 0 or self.metrics.kl_at(step)

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt of any source, in tokens."""
        return max(source.max_prompt_tokens for source in self.sources)

    @property
    def longest_response(self) -> int:
        """The largest T of any stage, in tokens."""
        return max(view.train.max_response_tokens for view in self.views())

    @property
    def longest_sequence(self) -> int:
        """Most tokens of a prompt and its response together, in any stage."""
        return self.max_prompt_tokens + self.longest_response

    @property
    def tokens_by_key(self) -> dict[str, int]:
        """The two parts of ``longest_sequence``, in tokens, by their keys."""
        return {
            "data.max_prompt_tokens": self.max_prompt_tokens,
            "train.max_response_tokens": self.longest_response,
        }

    @property
    def most_responses_at_once(self) -> int:
        """Responses that a vLLM worker may sample side by side, in the stage with the largest groups."""
        return self.rollout.concurrency * max(view.train.group_size for view in self.views())

    @model_validator(mode="after")
    def _refuse_impossible(self) -> Self:
        """``ConfigError``, which pydantic passes on as it is, if values that are right alone cannot stand together."""
        self.train.refuse_impossible_schedule()
        self.checkpoints.refuse_impossible()
        self.weights.refuse_impossible()
        self.broker.refuse_impossible()
        self.rollout.refuse_impossible()
        refuse_impossible_rewards(self.rewards, self.verifier.combine)
        if self.environment is not None:
            self.environment.refuse_impossible()
        elif any(reward.use == ENVIRONMENT for reward in self.rewards):
            raise ConfigError(
                "rewards: use = 'environment' takes what the environment gave, and there is none; name one in the "
                "section [environment]"
            )
        refuse_impossible_sources(self.data, self.rewards, self.longest_response)
        self._refuse_unknown_shares()
        if self.flow.reconsider_every is not None and not any(source.reconsidered for source in self.sources):
            raise ConfigError(
                f"flow.reconsider_every = {self.flow.reconsider_every}: no source has drop_solved or prefer_half, so "
                "there is nothing to look at; give one of them, or leave the key out"
            )
        self._refuse_other_dtypes()
        self.placement.refuse_impossible(
            self.rollout.engine, self.rollout.gpu_memory_utilization, has_reference=bool(self.references)
        )
        self._refuse_unused_reference()
        starts = self.stage_starts
        for number, (before, start) in enumerate(itertools.pairwise(starts), start=1):
            if start <= before:
                raise ConfigError(
                    f"stages.{number - 1}.from_step = {start}: stage {number} begins after stage {number - 1}, which "
                    f"begins at step {before}"
                )
        for number, view in enumerate(self.views()):
            try:
                view._refuse_impossible_stage()
            except ConfigError as error:
                stage = f"stage {number} (stages.{number - 1}, from step {starts[number]}): " if number else ""
                raise ConfigError(f"{stage}{error}") from None
        return self

    def _refuse_unknown_shares(self) -> None:
        known = [source.name for source in self.sources if source.name is not None]
        for number, stage in enumerate(self.stages):
            for name in stage.shares or ():
                if not known:
                    raise ConfigError(f"stages.{number}.shares: there is one source, [data]; several are [[data]]")
                if name not in known:
                    raise ConfigError(f"stages.{number}.shares: no source is called {name!r}; {named(name, known)}")

    def _refuse_unused_reference(self) -> None:
        if self.references:
            return
        for number, view in enumerate(self.views()):
            if view.objective.reference is not None:
                key = f"stages.{number - 1}.reference" if number else "objective.reference"
                raise ConfigError(
                    f"{key} = {view.objective.reference!r} with objective.kl_beta = 0 in every stage and "
                    "metrics.kl_every = 0: no reference is loaded"
                )

    def _refuse_other_dtypes(self) -> None:
        if self.train.bfloat16 == "weights" and self.model.dtype != "bfloat16":
            raise ConfigError(
                f"train.bfloat16 = 'weights' with model.dtype = {self.model.dtype!r}: it says how to compute in "
                "bfloat16, so 'bfloat16' is right"
            )
        if self.train.bfloat16 == "weights" and self.weights.dtype != "bfloat16":
            raise ConfigError(
                f"train.bfloat16 = 'weights' with weights.dtype = {self.weights.dtype!r}: the policy computes with "
                "bfloat16 weights, so 'bfloat16' publishes every bit of them"
            )

    def _refuse_impossible_stage(self) -> None:
        refuse_impossible_shares({source.name or "data": _share(source) for source in self.sources})
        self.train.refuse_too_small(self.max_prompt_tokens)
        refuse_shallow(self.train.groups_per_step, self.flow.pipeline_depth)
        self.train.refuse_uneven()
        self.objective.refuse_impossible(self.train.group_size)
        self.entropy.refuse_impossible()
        self.flow.refuse_impossible(self.train)


def _with_shares(sources: tuple[Data, ...], shares: dict[str, float]) -> tuple[Data, ...]:
    return tuple(source.model_copy(update={"share": shares.get(source.name or "", source.share)}) for source in sources)


def _share(source: Data) -> float:
    return 1.0 if source.share is None else source.share


def known_keys() -> list[str]:
    """``section.key`` of every key. ``described.py`` tells more about them."""
    sections = Config.model_fields.items()
    return [f"{name}.{key}" for name, field in sections for key in section_of(field.annotation).model_fields]


def section_of(annotation: Any) -> type[Section]:
    """The type of section that a field of ``Config`` holds, alone, in a list, or not always."""
    while not isinstance(annotation, type):
        annotation = get_args(annotation)[0]
    return annotation
