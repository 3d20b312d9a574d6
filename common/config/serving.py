"""The sections on what surrounds the training: weights on their way, workers, the broker, what is written down."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..errors import ConfigError
from .section import Section, expand


class Weights(Section):
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

    def refuse_impossible(self) -> None:
        """``ConfigError`` where the transport has no folder."""
        if self.transport == "file" and self.folder is None:
            raise ConfigError("weights.transport = 'file' needs weights.folder, a folder every node sees")


class Rollout(Section):
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

    def refuse_impossible(self) -> None:
        """``ConfigError`` where the engine cannot spread the model."""
        if self.engine == "torch" and self.tensor_parallel != 1:
            raise ConfigError("rollout.tensor_parallel needs rollout.engine = 'vllm'; the torch engine uses one device")


class Verifier(Section):
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


class Broker(Section):
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

    def refuse_impossible(self) -> None:
        """``ConfigError`` where a group's time is shorter than its worker's."""
        if self.generation_s != "auto" and self.generation_s < self.lease_s:
            raise ConfigError(
                f"broker.generation_s = {self.generation_s:g} is below broker.lease_s = {self.lease_s:g}: groups would "
                f"be issued again before a silent worker counts as gone; 'auto' or at least {self.lease_s:g} is right"
            )


class Metrics(Section):
    samples_every: int = Field(default=10, ge=0)
    """``samples.jsonl`` shows what is asked, answered and judged. It takes a look once in the tickets of so many
    training steps (this times ``train.groups_per_step``); 0: never."""
    samples_groups: int = Field(default=2, ge=1, le=16)
    """Groups of a look, drawn by the run's seed from the tickets of one step before anything is known of them; those
    that are refunded are shown too."""
    samples_bytes: int = Field(default=32_000_000, ge=1_000_000)
    """Largest size of ``samples.jsonl``. Where it would be passed, every second look is taken out, and from then on
    half as many are taken."""
