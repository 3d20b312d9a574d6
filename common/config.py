"""The run's configuration: every key, its default and its meaning, in this one file.

Presets (TOML) are composed left to right, then single keys are set; what comes later wins. Unknown keys are refused
with a suggestion, and an error names the key, the value, where it stands and what would be right.
"""

from __future__ import annotations

import bisect
import difflib
import itertools
import os
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomlkit
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from .errors import ConfigError
from .limits import MOST_COUNTED
from .settings import read
from .texts import defect

Overflow = Literal["wait", "drop", "mask", "soft"]
PipelineDepth = int | Literal["auto"]

PRESETS = Path(__file__).resolve().parent.parent / "presets"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Model(_Section):
    path: str
    """Folder in Hugging Face layout, or a hub name. ``{presets}`` stands for the presets folder of this install, a
    leading ``~`` for the home of whoever reads it."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the learner's forward and backward pass: float32, or bfloat16 by autocast over float32 weights."""


def _refuse_defect(text: str) -> str:
    if (wrong := defect(text)) is not None:
        raise ValueError(f"{wrong}, or put the text in single quotes")
    return text


Said = Annotated[str, AfterValidator(_refuse_defect)]
"""A text that goes into prompts."""


Column = Literal[
    "id",
    "prompt",
    "messages",
    "answer",
    "tests",
    "entry",
    "options",
    "reward_model",
    "ability",
    "extra_info",
    "responses",
]
"""Columns that we know."""


class Data(_Section):
    source: Literal["file", "hub", "reasoning_gym"] = "file"
    """``file``: JSONL, JSON, CSV or Parquet; ``hub``: a Hugging Face dataset; ``reasoning_gym``: generated problems."""
    path: str
    """The file, the dataset's hub name, or the reasoning-gym generator's name. ``{presets}`` and ``~`` as in
    ``model.path``."""
    columns: dict[Column, str] = Field(default_factory=dict)
    """What the columns are called in the file or hub dataset, where not by our names: ``{prompt = "question", answer =
    "solution"}``. ``a.b`` is b in the object a. What a row is judged by is then the named column alone."""
    split: str = "train"
    """Split of a hub dataset."""
    size: int = Field(default=10_000, ge=1)
    """Rows to generate (reasoning_gym only)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the reasoning-gym generator, by its own names."""
    system: Said | None = None
    """System message put before prompts that have none; none by default."""
    examples: tuple[tuple[Said, Said], ...] = ()
    """Worked examples (question, answer) put before every prompt as earlier turns of the conversation."""
    suffix: Said | None = None
    """Text put after a prompt, for instance the demand for a boxed answer. By default that demand after problems of
    reasoning-gym, and nothing after others; ``""`` is nothing after any."""
    ability: Literal["math", "exact"] | None = None
    """What judges rows that name no ability and have an answer: ``math`` its value, ``exact`` its text. By default
    ``math``, and a row whose answer is words or a bare sum is refused, because mathematics would take ``abc`` for
    ``cba``."""
    comparison: Literal["livecodebench", "exact"] | None = None
    """How outputs of programs and values of calls are compared in rows of code that name no rule of their own. By
    default ``livecodebench``, as that benchmark's harness does; ``exact`` is stricter (docs/verifiers.md)."""
    max_prompt_tokens: int = Field(default=2048, ge=1)
    """Longer prompts are dropped, with a count (report 3.2: 2048)."""
    difficulty_model: str | None = None
    """Offline filter (report 3.1): drop the prompts that this model solved never or always, by the row's
    ``extra_info.model_difficulty``, which has each model's failures out of ``difficulty_tries``. Off by default."""
    difficulty_tries: int = Field(default=16, ge=1)
    """Responses a prompt that the difficulty was measured with (Skywork-OR1-RL-Data: 16)."""


class Train(_Section):
    steps: int = Field(ge=1)
    """Training steps of the whole run, all stages together."""
    groups_per_step: int = Field(ge=1)
    """D_R of the report: groups (prompts with a signal) in a training step's batch."""
    minibatch_groups: int | None = Field(default=None, ge=1)
    """D_T of the report: groups of one SGD update, in ticket order. By default D_R: one update a training step."""
    reuse: int = Field(default=1, ge=1)
    """N_reuse of the report: times a training step goes through its batch. N_SGD = (D_R/D_T)·N_reuse updates."""
    group_size: int = Field(ge=2)
    """G of the report: responses a prompt."""
    max_response_tokens: int = Field(ge=1)
    """T: longest response in tokens; one that reaches it without an end token is truncated and scores 0."""
    learning_rate: float = Field(default=1e-6, gt=0)
    """AdamW, constant (report: 1e-6)."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moment decays."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's decoupled weight decay."""
    grad_clip: float = Field(default=1.0, ge=0)
    """Largest global L2 norm of the gradient; 0 turns clipping off."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed's ZeRO stage."""
    offload: Literal["none", "optimizer", "optimizer+parameters"] = "none"
    """ZeRO-Offload: what rests in the host's memory. ``optimizer``: float32 master weights, moments, and the update
    itself, on the host's cores (ZeRO 1 to 3). ``optimizer+parameters``: the weights between uses too (ZeRO 3)."""
    micro_batch_tokens: int = Field(default=16384, ge=1)
    """Token budget of one forward and backward pass, prompts included. The step's result does not depend on it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    checkpoint_every: int = Field(default=20, ge=1)
    """Steps between checkpoints; the last step always makes one."""
    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints to keep."""
    ranks: int = Field(default=1, ge=1)
    """Learner processes that ``leeway up`` starts on this machine."""
    threads: int = Field(default=1, ge=1)
    """CPU threads a learner process."""

    @property
    def updates_per_step(self) -> int:
        """N_SGD (report 4.1)."""
        return self.groups_per_step // (self.minibatch_groups or self.groups_per_step) * self.reuse


class Objective(_Section):
    loss: Literal["magic", "grpo", "pg"] = "magic"
    """``magic``: report 3.1, a mean over tokens. ``grpo``: report 2.4, a mean over responses of each one's mean over
    tokens. ``pg``: report 2.3, vanilla policy gradient, a mean over responses of each one's sum, never clipped."""
    clip_low: float = Field(default=0.2, ge=0, le=1)
    """ε_low of the clipped ratio."""
    clip_high: float = Field(default=0.2, ge=0)
    """ε_high; above clip_low it is clip-higher."""
    advantage_std: Literal["unbiased", "biased"] = "unbiased"
    """Standard deviation of the group's rewards: divided by G-1 (released code) or by G."""
    advantage_eps: float = Field(default=1e-6, ge=0)
    """Added to the standard deviation (released code: 1e-6)."""
    advantage_mask: Literal["none", "before", "after"] = "none"
    """Truncated responses (report 3.2.3). ``none``: like any other. ``before``: no advantage, and no part in the
    group's mean and std. ``after``: no advantage. A mask needs two untruncated responses, else there is no signal."""
    kl_beta: float = Field(default=0.0, ge=0)
    """β of the k3 term against the initial model (report 2.4), which is held in memory only where β > 0."""
    kl_groups: Literal["signal", "all"] = "signal"
    """Groups the k3 term runs over. ``all``: groups without a signal enter the batch too, for this term alone."""
    correction: Literal["none", "decoupled", "loglinear"] = "none"
    """For stale data. ``none``: ratio π_θ/μ. ``decoupled``: ratio π_θ/π_old, weighted with π_old/μ; π_old by a forward
    pass before the first of several updates. ``loglinear``: the same, log π_old interpolated by version instead."""
    correction_bound: Literal["truncate", "mask"] = "truncate"
    """What becomes of a weight π_old/μ: cut at ``correction_cap``, or 0 outside ``correction_range``."""
    correction_cap: float = Field(default=2.0, gt=0)
    """C: largest weight of a token under ``truncate``."""
    correction_range: tuple[float, float] = (0.5, 5.0)
    """Weights kept under ``mask``: lowest, highest."""


class Entropy(_Section):
    control: Literal["none", "constant", "adaptive"] = "adaptive"
    """``adaptive``: the controller of report 3.2. ``constant``: α fixed at ``entropy.alpha``. ``none``: α = 0. The
    entropy is measured all the same."""
    alpha: float = Field(default=0.0, ge=0)
    """α of ``constant``."""
    rule: Literal["report", "scripts"] = "report"
    """The controller as the report states it, or as the released code runs it: one step late, down on equality."""
    target: float = Field(default=0.2, ge=0)
    """tgt in nats a token (report: 0.2). A live control: ``leeway set target-entropy``."""
    delta: float | None = Field(default=None, ge=0)
    """Δ, the step of the coefficient. By default the rule's own: report 0.005, scripts 1e-4."""
    max_coefficient: float | None = Field(default=None, ge=0)
    """Largest coefficient. By default the rule's own: report no limit, scripts 5e-3."""
    estimate: Literal["exact", "sampled"] = "exact"
    """e_k: full-vocabulary entropy of the policy on the batch, or -mean log π_old of the sampled tokens."""


class Flow(_Section):
    max_staleness: int = Field(default=0, ge=0, le=MOST_COUNTED)
    """η: 0 is strictly on-policy. A live control: ``leeway set max-staleness``."""
    overflow: Overflow = "wait"
    """What gives way when a group is late. ``wait``: the learner, which takes the oldest live groups. The others take
    those that are ready; of what is older than the bound, ``drop`` refunds the group, ``mask`` leaves the tokens out
    of the loss, ``soft`` trains it and counts. A live control: ``leeway set overflow``."""
    pipeline_depth: Annotated[int, Field(ge=1, le=MOST_COUNTED)] | Literal["auto"] = "auto"
    """Groups live at most, beside the bound's (η+1)·B. ``auto``: the fewest at which the learner does not wait, by
    what is measured. A live control: ``leeway set pipeline-depth``."""
    inject_lag: int = Field(default=0, ge=0)
    """Study a regime on any hardware: every group is sampled by exactly the version so many training steps before the
    one that trains it (by version 0 in the first of them). Then nothing overlaps. At most ``max_staleness``."""
    least_ess: float = Field(default=0.0, ge=0, lt=1)
    """Guard: after a training step whose effective sample size (``logprob/ess``, of π_old/μ, a share of the tokens) is
    lower, η goes down by one; after ``guard_patience`` steps in a row without, up by one, until it is
    ``max_staleness`` again. 0: no guard."""
    guard_patience: int = Field(default=20, ge=1)
    """Training steps without an alarm of the guard after which it takes one step back."""
    strictly_on_policy: bool = False
    """Refuse whatever is off-policy: max_staleness above 0, now or by the dial, and more than one update a step."""
    stage_change: Literal["finish", "refund"] = "finish"
    """Work of a stage that ends. ``finish``: only what its steps will train is issued, and work of the next stage is
    issued ahead under the same bound. ``refund``: the queue stays full to its last step, the rest is refunded as
    ``stage_ended``, and the next stage starts with an empty queue, knowing every result of this one."""
    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature τ; the learner's logits are divided by it too."""
    seed: int = Field(default=0, ge=0)
    """The run's seed: with a ticket's number it decides the prompt and every sampling seed."""


class Weights(_Section):
    transport: Literal["redis", "file"] = "redis"
    """Where payloads go; manifests always go through Redis."""
    folder: str | None = None
    """Shared folder of the ``file`` transport. ``{presets}`` and ``~`` as in ``model.path``."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """What is published: bfloat16 halves the bytes; float32 is exact for a float32 sampler."""
    keyframe_every: int = Field(default=20, ge=1)
    """Every N-th version is published whole; the others are deltas."""

    @property
    def shared(self) -> Path | None:
        """``folder`` on this machine."""
        return Path(expand(self.folder)) if self.folder is not None else None


class Rollout(_Section):
    engine: Literal["torch", "vllm"] = "vllm"
    """``vllm`` for real models; ``torch`` for small ones and for bit-for-bit proofs."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the sampler."""
    workers: int = Field(default=1, ge=1)
    """Workers that ``leeway up`` starts on this machine."""
    concurrency: int = Field(default=8, ge=1)
    """Groups one vLLM worker generates side by side; the torch engine takes one at a time."""
    kv_on_update: Literal["recompute", "keep"] = "recompute"
    """Responses under way go on under new weights; the keys and values of what they have so far are computed anew, or
    kept from the older weights: faster, and further from what the learner computes."""
    threads: int = Field(default=1, ge=1)
    """CPU threads a worker."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU that vLLM may use."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs a vLLM worker spreads the model over."""


class Verifier(_Section):
    workers: int = Field(default=1, ge=1)
    """Workers that ``leeway up`` starts on this machine."""
    jobs: int = Field(default=1, ge=1)
    """Grading processes a worker."""
    timeout_s: float = Field(default=10.0, gt=0)
    """Wall seconds one mathematical response may be graded for."""
    on_timeout: Literal["zero", "refund"] = "zero"
    """A response that cannot be graded in its time: reward 0, or its group is refunded as ``poison``."""
    code_timeout_s: float = Field(default=6.0, gt=0)
    """Wall seconds a solution may take for one test, unless the problem says otherwise (LiveCodeBench: 6)."""
    code_total_s: float = Field(default=120.0, gt=0)
    """Wall seconds a solution may take for all its tests together."""
    math: Literal["rules", "report"] = "rules"
    """``rules``: exact rules before Math-Verify (docs/verifiers.md). ``report``: Math-Verify alone, by the four steps
    of report 7.1, for those who want exactly that."""
    memory_bytes: int = Field(default=50_000_000_000, ge=1 << 26)
    """Memory of a solution's processes together (report 7: 50 GB), unless the problem says otherwise; never more than
    half of the machine's."""
    allow_unsandboxed: bool = False
    """Run solutions WITHOUT ANY ISOLATION where there is no sandbox. They can read, write and send whatever the
    verifier can, and forge nothing only as long as they do not try."""


class Broker(_Section):
    lease_s: float = Field(default=30.0, gt=0)
    """Seconds after which a silent worker's entry is given to another. Live workers renew at a quarter of it."""
    heartbeat_s: float = Field(default=2.0, gt=0)
    """Seconds between heartbeats; a worker is gone after five without one."""
    max_attempts: int = Field(default=3, ge=1)
    """Deliveries of a group, and times it is lost or damaged on its way, before it is a dead letter and its ticket is
    refunded as ``poison``."""
    generation_s: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Seconds that a worker may take for generating a group it has taken, waiting on the stream not counted. Then the
    same ticket is issued again, and the worker stops generating it. ``auto``: 600, and half a second for each token of
    the longest response (32768 tokens: 4.7 hours). At least ``lease_s``."""
    drain_s: float = Field(default=60.0, gt=0)
    """Seconds a role that is asked to stop (SIGTERM) has for what is under way: a worker's groups, the learner's step
    and checkpoint. Then it leaves: leases are given back, the learner's step is made again after a resume. Also how
    long an engine may take to stop generating a group that nobody wants any more, until its worker ends itself."""
    stall_s: float = Field(default=1800.0, gt=0)
    """Seconds without a step, a finished group or a change in any stream until the stall alarm is raised."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of each role's Prometheus endpoint; 0 turns it off. ``LEEWAY_METRICS_PORT`` goes before it; ``leeway up``
    gives its roles this port and those above it, the learner first, then rollout, then verifier workers."""
    metrics_host: str = "127.0.0.1"
    """Address the endpoint listens at; 0.0.0.0 for all, to everybody who can reach it."""


class Metrics(_Section):
    samples_every: int = Field(default=10, ge=0)
    """``samples.jsonl`` shows what is asked, answered and judged. It takes a look once in the tickets of so many
    training steps (this times ``train.groups_per_step``); 0: never."""
    samples_groups: int = Field(default=2, ge=1, le=16)
    """Groups of a look, drawn by the run's seed from the tickets of one step before anything is known of them; those
    that are refunded are shown too."""
    samples_bytes: int = Field(default=32_000_000, ge=1_000_000)
    """Largest size of ``samples.jsonl``. Where it would be passed, every second look is taken out, and from then on
    half as many are taken."""


class Stage(_Section):
    """A change at a training step, in one run and without a restart. A key left out stays as it was before; the first
    stage is described by ``[train]`` and ``[flow]``."""

    from_step: int = Field(ge=1)
    """The first training step of the stage."""
    groups_per_step: int | None = Field(default=None, ge=1)
    """D_R from here on."""
    minibatch_groups: int | None = Field(default=None, ge=1)
    """D_T from here on."""
    group_size: int | None = Field(default=None, ge=2)
    """G from here on."""
    max_response_tokens: int | None = Field(default=None, ge=1)
    """T from here on."""
    temperature: float | None = Field(default=None, gt=0)
    """τ from here on."""
    online_filter: bool = False
    """Drop, from here on, the prompts that the policy solved every time it saw them in the stage before (report
    3.1, online filtering)."""


class Config(_Section):
    model: Model
    data: Data
    train: Train
    objective: Objective = Objective()
    entropy: Entropy = Entropy()
    flow: Flow = Flow()
    weights: Weights = Weights()
    rollout: Rollout = Rollout()
    verifier: Verifier = Verifier()
    broker: Broker = Broker()
    metrics: Metrics = Metrics()
    stages: tuple[Stage, ...] = ()

    @property
    def stage_starts(self) -> tuple[int, ...]:
        """First training step of every stage; that of stage 0 is 0."""
        return (0, *(stage.from_step for stage in self.stages))

    def stage_of(self, step: int) -> int:
        """The stage that training step ``step`` belongs to."""
        return bisect.bisect_right(self.stage_starts, step) - 1

    def at_stage(self, stage: int) -> Config:
        """The same configuration with ``train`` and ``flow`` as they are in stage ``stage``."""
        train: dict[str, Any] = {}
        flow: dict[str, Any] = {}
        for change in self.stages[:stage]:
            train |= change.model_dump(include=_STAGED_TRAIN, exclude_none=True)
            flow |= change.model_dump(include={"temperature"}, exclude_none=True)
        return self.model_copy(
            update={"train": self.train.model_copy(update=train), "flow": self.flow.model_copy(update=flow)}
        )

    def views(self) -> list[Config]:
        """``at_stage`` of every stage."""
        return [self.at_stage(stage) for stage in range(len(self.stage_starts))]

    @property
    def longest_response(self) -> int:
        """The largest T of any stage, in tokens."""
        return max(view.train.max_response_tokens for view in self.views())

    @property
    def longest_sequence(self) -> int:
        """Tokens of a prompt and its response at most, in any stage."""
        return self.data.max_prompt_tokens + self.longest_response

    @property
    def tokens_by_key(self) -> dict[str, int]:
        """The two parts of ``longest_sequence``, by their keys."""
        return {
            "data.max_prompt_tokens": self.data.max_prompt_tokens,
            "train.max_response_tokens": self.longest_response,
        }

    @property
    def most_responses_at_once(self) -> int:
        """Responses that a vLLM worker may sample side by side, in the stage with the largest groups."""
        return self.rollout.concurrency * max(view.train.group_size for view in self.views())


_STAGED_TRAIN = {"groups_per_step", "minibatch_groups", "group_size", "max_response_tokens"}


# --- composing -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of keys: a preset file or one ``--set``."""

    name: str
    text: str
    values: dict[str, Any]


def compose(presets: list[str], settings: list[str]) -> Config:
    """The configuration of ``presets`` (names or paths, left to right) and then ``settings`` (``section.key=value``).

    Raises ``ConfigError`` naming source, key, value and what would be right.
    """
    layers = [_preset_layer(name) for name in presets] + [Layer(f"--set {text}", "", read(text)) for text in settings]
    merged: dict[str, Any] = {}
    for layer in layers:
        _refuse_unknown(layer, Config, layer.values, ())
        _merge(merged, layer.values)
    return _validated(merged, layers)


def parse(text: str, name: str = "the run's stored configuration") -> Config:
    """The configuration in one TOML text."""
    layer = Layer(name, text, _toml(text, name))
    _refuse_unknown(layer, Config, layer.values, ())
    return _validated(layer.values, [layer])


def dump(config: Config) -> str:
    """``config`` as TOML, every key spelled out; ``parse`` gives the same configuration back."""
    return tomlkit.dumps(config.model_dump(mode="json", exclude_none=True))


def expand(path: str) -> str:
    """``path`` with ``{presets}`` and a leading ``~`` filled in for this machine and user."""
    return os.path.expanduser(path.replace("{presets}", str(PRESETS)))


def known_keys() -> list[str]:
    """``section.key`` of every key; ``described.py`` tells more of them."""
    sections = Config.model_fields.items()
    return [f"{name}.{key}" for name, field in sections for key in section_of(field.annotation).model_fields]


def section_of(annotation: Any) -> type[BaseModel]:
    """The section a field of ``Config`` holds, one or a list of."""
    return annotation if isinstance(annotation, type) else get_args(annotation)[0]


def preset_names() -> list[str]:
    """Names of the presets shipped with this install."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def _preset_layer(name: str) -> Layer:
    path = Path(expand(name)) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(
            f"preset {name!r}: cannot read {path} ({error.strerror}); shipped presets: {', '.join(preset_names())}"
        ) from error
    return Layer(str(path), text, _toml(text, str(path)))


def _toml(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not TOML: {error}") from error


def _merge(into: dict[str, Any], values: dict[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _refuse_unknown(layer: Layer, model: type[BaseModel], values: dict[str, Any], at: tuple[str, ...]) -> None:
    for key, value in values.items():
        here = (*at, key)
        if key not in model.model_fields:
            raise ConfigError(f"{_where(layer, here)}: unknown key {'.'.join(here)!r}{_suggestion(here)}")
        kind = model.model_fields[key].annotation
        if key == "stages" and not at:
            if not isinstance(value, list) or not all(isinstance(stage, dict) for stage in value):
                raise ConfigError(f"{_where(layer, here)}: stages = {value!r}: a list of tables is due, [[stages]]")
            for number, stage in enumerate(value):
                _refuse_unknown(layer, Stage, stage, (*here, str(number)))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            if not isinstance(value, dict):
                raise ConfigError(f"{_where(layer, here)}: {'.'.join(here)} = {value!r}: a table of keys is due")
            _refuse_unknown(layer, kind, value, here)


def _suggestion(path: tuple[str, ...]) -> str:
    known = known_keys()
    dotted = ".".join(path)
    same_name = [key for key in known if key.split(".")[-1] == path[-1]]
    close = same_name or difflib.get_close_matches(dotted, known, n=1, cutoff=0.5)
    if not close and len(path) == 1:
        close = difflib.get_close_matches(dotted, list(Config.model_fields), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    siblings = [key for key in known if key.startswith(path[0] + ".")] or list(Config.model_fields)
    return f"; known here: {', '.join(siblings)}"


def _validated(values: dict[str, Any], layers: list[Layer]) -> Config:
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = tuple(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ConfigError(f"{layers[-1].name}: {'.'.join(path)} is required and no preset gives it") from error
        layer = next((layer for layer in reversed(layers) if _has(layer.values, path)), None)
        right = first["msg"].removeprefix("Value error, ")
        while layer is None and len(path) > 1:  # of a key with several types, each type's complaint has its own path
            path = path[:-1]
            layer = next((layer for layer in reversed(layers) if _has(layer.values, path)), None)
            right = " or ".join(other["msg"] for other in error.errors() if other["loc"][: len(path)] == path)
        layer = layer or layers[-1]
        message = f"{_where(layer, path)}: {'.'.join(path)} = {first['input']!r}: {right}"
        raise ConfigError(message) from error
    _refuse_impossible(config)
    return config


def _refuse_impossible(config: Config) -> None:
    if config.weights.transport == "file" and config.weights.folder is None:
        raise ConfigError("weights.transport = 'file' needs weights.folder, a folder every node sees")
    broker = config.broker
    if broker.generation_s != "auto" and broker.generation_s < broker.lease_s:
        raise ConfigError(
            f"broker.generation_s = {broker.generation_s:g} is below broker.lease_s = {broker.lease_s:g}: groups would "
            f"be issued again before a silent worker counts as gone; 'auto' or at least {broker.lease_s:g} is right"
        )
    if config.rollout.engine == "torch" and config.rollout.tensor_parallel != 1:
        raise ConfigError("rollout.tensor_parallel needs rollout.engine = 'vllm'; the torch engine uses one device")
    starts = config.stage_starts
    for number, (before, start) in enumerate(itertools.pairwise(starts), start=1):
        if start <= before:
            raise ConfigError(
                f"stages.{number - 1}.from_step = {start}: stage {number} begins after stage {number - 1}, which "
                f"begins at step {before}"
            )
    for number, view in enumerate(config.views()):
        try:
            _refuse_impossible_stage(view)
        except ConfigError as error:
            stage = f"stage {number} (stages.{number - 1}, from step {starts[number]}): " if number else ""
            raise ConfigError(f"{stage}{error}") from None


def _refuse_impossible_stage(config: Config) -> None:
    train = config.train
    longest = config.data.max_prompt_tokens + train.max_response_tokens
    if train.micro_batch_tokens < longest:
        raise ConfigError(
            f"train.micro_batch_tokens = {train.micro_batch_tokens} cannot hold one longest response: "
            f"data.max_prompt_tokens {config.data.max_prompt_tokens} + train.max_response_tokens "
            f"{train.max_response_tokens} = {longest}"
        )
    if train.ranks > train.groups_per_step * train.group_size:
        raise ConfigError(
            f"train.ranks = {train.ranks} is more than the {train.groups_per_step} x "
            f"{train.group_size} responses of a step (train.groups_per_step x train.group_size)"
        )
    if train.offload != "none" and train.zero_stage < _LOWEST_ZERO_STAGE[train.offload]:
        raise ConfigError(
            f"train.offload = {train.offload!r} with train.zero_stage = {train.zero_stage}: it needs a zero_stage of "
            f"at least {_LOWEST_ZERO_STAGE[train.offload]}"
        )
    refuse_shallow(train.groups_per_step, config.flow.pipeline_depth)
    _refuse_impossible_training(train, config.objective, config.entropy)
    _refuse_off_policy(train, config.flow)
    _refuse_lag(config.flow)


def refuse_shallow(groups_per_step: int, depth: PipelineDepth) -> None:
    """``ConfigError`` where a pipeline depth could not hold one batch."""
    if depth != "auto" and depth < groups_per_step:
        raise ConfigError(
            f"flow.pipeline_depth = {depth} is below train.groups_per_step = {groups_per_step}: a training step takes "
            f"{groups_per_step} live groups, {groups_per_step - depth} more than may be live; 'auto' or at least "
            f"{groups_per_step} is right"
        )


_LOWEST_ZERO_STAGE = {"optimizer": 1, "optimizer+parameters": 3}


def _refuse_off_policy(train: Train, flow: Flow) -> None:
    if not flow.strictly_on_policy:
        return
    if flow.max_staleness > 0:
        raise ConfigError(
            f"flow.strictly_on_policy = true with flow.max_staleness = {flow.max_staleness}: strictly on-policy is a "
            "max_staleness of 0"
        )
    if train.updates_per_step > 1:
        per_update = train.minibatch_groups or train.groups_per_step
        raise ConfigError(
            f"flow.strictly_on_policy = true with train.groups_per_step {train.groups_per_step} / "
            f"train.minibatch_groups {per_update} x train.reuse {train.reuse} = {train.updates_per_step} updates a "
            "step: only the first is on-policy"
        )


def _refuse_lag(flow: Flow) -> None:
    refuse_below_lag(flow.max_staleness, flow)
    if flow.inject_lag > 0 and flow.least_ess > 0:
        raise ConfigError(
            f"flow.least_ess = {flow.least_ess} with flow.inject_lag = {flow.inject_lag}: the guard would turn the "
            "bound below a lag that stays"
        )


def refuse_below_lag(max_staleness: int, flow: Flow) -> None:
    """``ConfigError`` where a bound would expire every group of an injected lag."""
    if max_staleness < flow.inject_lag:
        raise ConfigError(
            f"flow.max_staleness = {max_staleness} with flow.inject_lag = {flow.inject_lag}: every group would be "
            f"older than the bound; at least {flow.inject_lag} is right"
        )


def _refuse_impossible_training(train: Train, objective: Objective, entropy: Entropy) -> None:
    per_update = train.minibatch_groups or train.groups_per_step
    if train.groups_per_step % per_update:
        raise ConfigError(
            f"train.minibatch_groups = {per_update} does not divide train.groups_per_step = {train.groups_per_step}: "
            f"{train.groups_per_step} = {train.groups_per_step // per_update} x {per_update} + "
            f"{train.groups_per_step % per_update}"
        )
    if objective.advantage_mask != "none" and train.group_size < 3:
        raise ConfigError(
            f"objective.advantage_mask = {objective.advantage_mask!r} needs train.group_size of at least 3: of "
            f"{train.group_size}, one truncated response leaves {train.group_size - 1}, and a mask needs 2"
        )
    if objective.kl_groups == "all" and objective.kl_beta == 0:
        raise ConfigError(
            "objective.kl_groups = 'all' with objective.kl_beta = 0: groups without a signal would enter the batch "
            "for a term of weight 0"
        )
    low, high = objective.correction_range
    if not 0 <= low < high:
        raise ConfigError(f"objective.correction_range = [{low}, {high}]: 0 <= lowest < highest is due")
    if (entropy.control == "constant") != (entropy.alpha > 0):
        raise ConfigError(
            f"entropy.control = {entropy.control!r} with entropy.alpha = {entropy.alpha}: "
            "'constant' needs an alpha above 0, and no other control uses it"
        )


def _has(values: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        elif isinstance(values, dict) and part in values:
            values = values[part]
        else:
            return False
    return True


def _where(layer: Layer, path: tuple[str, ...]) -> str:
    """``file:line`` of a key; a plain scan of the text, because TOML parsers keep no positions."""
    table: tuple[str, ...] = ()
    tables = Counter[str]()
    for number, line in enumerate(layer.text.splitlines(), start=1):
        text = line.split("#")[0].strip()
        if text.startswith("["):
            table = tuple(part.strip() for part in text.strip("[]").split("."))
            if text.startswith("[["):
                table = (*table, str(tables[text]))
                tables[text] += 1
            if table == path or (path == table[:1] and len(table) > 1):
                return f"{layer.name}:{number}"
        elif (*table, *(part.strip() for part in text.split("=")[0].split("."))) == path:
            return f"{layer.name}:{number}"
    return layer.name
