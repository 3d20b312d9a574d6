"""The sections on what surrounds training: transport of weights, workers, broker, metrics."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ..errors import ConfigError
from ..limits import LONGEST_CALL_S, LONGEST_S, MOST_BYTES, MOST_PROCESSES, MOST_RESPONSES, MOST_THREADS
from ..wording import byte_size
from .section import Section, expand

MOST_IN_REDIS = 2_000_000_000
"""Largest version that travels through Redis, in bytes."""


class Weights(Section):
    transport: Literal["redis", "file"] = "redis"
    """How payloads travel; ``redis`` takes versions of up to 2 GB. Manifests always go through Redis."""
    folder: str | None = None
    """Shared folder of the ``file`` transport. ``{presets}`` and ``~`` mean the same as in ``model.path``."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Dtype of what is published: bfloat16 halves the bytes; float32 is exact for a float32 sampler."""
    keyframe_every: int = Field(default=20, ge=1)
    """Every N-th version is published whole, as a keyframe, and as a delta beside that; the others are deltas alone."""
    threads: int = Field(default=4, ge=1, le=MOST_THREADS)
    """Threads that digest, encode and write a version on the learner's rank 0, and as many that read and decode it on
    each rollout node."""
    node_folder: str | None = None
    """Folder of each rollout node for the copy that its workers share: two versions. It lies on the node itself. By
    default in shared memory, /dev/shm, or where that is absent or too small, in the temporary folder."""

    def why_too_large(self, parameters: int) -> str | None:
        """Why a model of so many parameters cannot be published by this transport, with the sum; None if it can."""
        version = parameters * (2 if self.dtype == "bfloat16" else 4)
        if self.transport != "redis" or version <= MOST_IN_REDIS:
            return None
        return (
            f"weights.transport = 'redis': a version has {byte_size(version)}, and Redis would hold two whole ones "
            f"beside their deltas: 2 x {byte_size(version)} = {byte_size(2 * version)}. It takes versions of at most "
            f"{byte_size(MOST_IN_REDIS)}: weights.transport = 'file', with weights.folder, a folder that every node "
            "sees, is right"
        )

    @property
    def shared(self) -> Path | None:
        """``folder`` on this machine."""
        return Path(expand(self.folder)) if self.folder is not None else None

    @property
    def node(self) -> Path | None:
        """``node_folder`` on this machine."""
        return Path(expand(self.node_folder)) if self.node_folder is not None else None

    def refuse_impossible(self) -> None:
        """``ConfigError`` if the transport has no folder."""
        if self.transport == "file" and self.folder is None:
            raise ConfigError("weights.transport = 'file' needs weights.folder, a folder every node sees")


class Rollout(Section):
    engine: Literal["torch", "vllm"] = "vllm"
    """``vllm`` for real models; ``torch`` for small ones and for bit-for-bit proofs."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Arithmetic of the sampler."""
    workers: int = Field(default=1, ge=1, le=MOST_PROCESSES)
    """Workers that ``leeway up`` starts, and that ``--dry-run`` finds GPUs for (``placement.rollout``)."""
    concurrency: int = Field(default=8, ge=1, le=MOST_RESPONSES)
    """Groups that one vLLM worker generates side by side. The torch engine takes one at a time."""
    kv_on_update: Literal["recompute", "keep"] = "recompute"
    """What becomes of the KV cache when responses under way go on under new weights: it is computed anew, or kept from
    the older weights, which is faster but further from what the learner computes."""
    threads: int = Field(default=1, ge=1, le=MOST_THREADS)
    """CPU threads of each worker."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of the GPU that vLLM may use."""
    head_dtype: Literal["auto", "float32", "model"] = "auto"
    """Arithmetic of vLLM's output projection. ``float32``: logits leave it unrounded, as the learner's do. ``model``:
    ``rollout.dtype``. ``auto``: ``float32`` on a GPU; ``model`` on a CPU, which would cast the whole projection at each
    token."""
    model_runner: Literal["auto", "v1", "v2"] = "auto"
    """Which of its two model runners vLLM uses. ``auto``: vLLM's own choice, in 0.32 ``v2`` on GPUs and ``v1`` on
    CPUs, or what ``VLLM_USE_V2_MODEL_RUNNER`` says."""
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs over which a vLLM worker spreads the model."""

    @property
    def at_once(self) -> int:
        """Groups that one worker generates side by side."""
        return 1 if self.engine == "torch" else self.concurrency

    def refuse_impossible(self) -> None:
        """``ConfigError`` if the engine cannot spread the model."""
        if self.engine == "torch" and self.tensor_parallel != 1:
            raise ConfigError("rollout.tensor_parallel needs rollout.engine = 'vllm'; the torch engine uses one device")


class Verifier(Section):
    workers: int = Field(default=1, ge=1, le=MOST_PROCESSES)
    """Workers that ``leeway up`` starts on this machine."""
    jobs: int = Field(default=1, ge=1, le=MOST_PROCESSES)
    """Grading processes of each worker."""
    timeout_s: float = Field(default=10.0, gt=0, le=LONGEST_CALL_S)
    """Wall seconds that grading one mathematical response may take."""
    solved_at: float = 1.0
    """A response with at least this reward is solved: for the online filter, pass@k and avg@n."""
    on_timeout: Literal["zero", "refund"] = "zero"
    """What becomes of a response that cannot be graded in time: reward 0, or its group is refunded as ``poison``."""
    code_timeout_s: float = Field(default=6.0, gt=0, le=LONGEST_CALL_S)
    """Wall seconds that a solution may take for one test, unless the problem says otherwise (LiveCodeBench: 6)."""
    code_total_s: float = Field(default=120.0, gt=0, le=LONGEST_CALL_S)
    """Wall seconds that a solution may take for all its tests together."""
    math: Literal["rules", "report"] = "rules"
    """How mathematics is judged. ``rules``: by exact rules, then Math-Verify (docs/reference/math-rules.md).
    ``report``: by Math-Verify alone, as in the four steps of report 7.1."""
    combine: Literal["sum", "product"] = "sum"
    """How several `[[rewards]]` make one: the sum, or the product, of each one's value times its weight."""
    rewards_memory_bytes: int = Field(default=4 << 30, ge=1 << 26, le=MOST_BYTES)
    """Address space of each process that runs reward functions, in bytes. What a function cannot get there is an
    error."""
    rewards_digest: str | None = None
    """Digest of the code of the run's own rewards, and of all modules of the user's that it imports. `leeway up` and
    `leeway create` fill it in; a verifier whose own code is different refuses to start. `any`: it does not look."""
    memory_bytes: int = Field(default=50_000_000_000, ge=1 << 26, le=MOST_BYTES)
    """Memory that a solution's processes may use together, in bytes (report 7: 50 GB), unless the problem says
    otherwise. It is never more than half of the machine's."""
    allow_unsandboxed: bool = False
    """Run solutions WITHOUT ANY ISOLATION if there is no sandbox. They can then read, write and send whatever the
    verifier can, and nothing keeps them from forging their verdicts."""


class Broker(Section):
    lease_s: float = Field(default=30.0, gt=0, le=LONGEST_S)
    """Seconds after which a silent worker's entry is redelivered to another. Workers renew at a quarter of it."""
    heartbeat_s: float = Field(default=2.0, gt=0, le=LONGEST_S)
    """Seconds between heartbeats. A worker that misses five counts as gone."""
    max_attempts: int = Field(default=3, ge=1)
    """How often a group may be delivered, and how often it may be lost or damaged on its way, before it becomes a dead
    letter and its ticket is refunded as ``poison``."""
    generation_s: Annotated[float, Field(gt=0, le=LONGEST_S)] | Literal["auto"] = "auto"
    """Seconds that a worker may take to generate a group that it has taken; time in the stream does not count. Then the
    same ticket is issued again, and the worker stops generating it. ``auto``: 600, plus half a second for each token
    of the longest response (32768 tokens: 4.7 hours), plus the time that an environment may take for all turns. At
    least ``lease_s``."""
    drain_s: float = Field(default=60.0, gt=0, le=LONGEST_S)
    """Seconds that a role has, when it is asked to stop (SIGTERM), to finish what is under way: a worker's groups, the
    learner's step and checkpoint. Then it leaves: a worker gives its leases back, and the learner's step is made again
    after a resume. An engine also has so long to stop generating a group that nobody wants any more; after that its
    worker ends itself."""
    retry_s: float = Field(default=300.0, ge=1, le=LONGEST_S)
    """Seconds for which a role asks again while Redis is away, frozen, cut off or out of memory. Then it ends with exit
    code 4; where the server is frozen, about half a minute later, because one try waits so long for an answer. A role
    that starts, and has not read this yet, asks for a minute under ``leeway up`` and once otherwise."""
    stall_s: float = Field(default=1800.0, gt=0, le=LONGEST_S)
    """Seconds without a step, a finished group or a change in any stream after which the stall alarm is raised."""
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of each role's Prometheus endpoint; 0 turns it off. ``LEEWAY_METRICS_PORT`` overrides it. ``leeway up``
    gives its roles this port and those above it: first the learner, then rollout, then verifier workers."""
    metrics_host: str = Field(default="127.0.0.1", min_length=1)
    """Address at which the endpoint listens. 0.0.0.0 is every address of the machine: all who can reach it can read.
    ``LEEWAY_METRICS_HOST`` overrides it."""

    def refuse_impossible(self) -> None:
        """``ConfigError`` if a group's time is shorter than its worker's lease."""
        if self.generation_s != "auto" and self.generation_s < self.lease_s:
            raise ConfigError(
                f"broker.generation_s = {self.generation_s:g} is below broker.lease_s = {self.lease_s:g}: groups would "
                f"be issued again before a silent worker counts as gone; 'auto' or at least {self.lease_s:g} is right"
            )


Tracker = Literal["wandb", "trackio", "mlflow"]
"""Trackers of experiments that a run can be followed into."""


class Metrics(Section):
    trackers: tuple[Tracker, ...] = ()
    """Trackers that the run is followed into from its start (docs/how-to/trackers.md): ``wandb``, ``trackio``,
    ``mlflow``. Each is fed by a process of its own from the run's folder. The run waits for none and goes on without
    one that fails."""
    project: str = Field(default="leeway", min_length=1, max_length=120)
    """What the trackers file the run under: a project of W&B or trackio, an experiment of MLflow."""
    peak_tflops: float | None = Field(default=None, gt=0)
    """What one of the learner's devices can do, in dense TFLOP/s of the arithmetic that it trains in: MFU is a share of
    it. By default as in NVIDIA's data sheets for a known card in bfloat16 (``common/flops.py``); on a CPU, in float32
    and with other cards, no MFU is reported."""
    kl_every: int = Field(default=0, ge=0)
    """How often the KL divergence from the reference model is measured (``kl/reference``) where ``objective.kl_beta``
    is 0: at step 0 and at every so many training steps, by a forward pass of that model over the batch; 0: never. The
    learner holds the model in memory, as it does for a KL term. The weights do not depend on it."""
    gradient_cosine: bool = False
    """Measure the cosine between the gradients of successive updates (``grad_cosine``), which stays high where stale
    data make training unstable (GAC, arXiv 2603.01501). It takes a float32 copy of the gradients where they lie: 4
    bytes a parameter, from ZeRO 1 on over all ranks together."""
    warn_ess: float = Field(default=0.5, ge=0, lt=1)
    """Early warning in ``leeway status``: the mean ``logprob/ess`` of the last 10 training steps is lower. 0: off."""
    warn_cosine: float = Field(default=0.3, gt=0, le=1)
    """Early warning in ``leeway status``: the mean ``grad_cosine`` of the last 10 training steps is higher. 1: off."""
    warn_mismatch: float = Field(default=0.1, ge=0)
    """Early warning in ``leeway status``: fresh tokens' log-probabilities by sampler and learner
    (``logprob/abs_diff_mean/staleness_0``) differ by more nats in the mean of the last 10 training steps that had such
    tokens. 0: off."""
    samples_every: int = Field(default=10, ge=0)
    """How often ``samples.jsonl``, which shows what is asked, answered and judged, takes a look: once in the tickets of
    so many training steps (this times ``train.groups_per_step``); 0: never."""
    samples_groups: int = Field(default=2, ge=1, le=16)
    """Groups in each look. The run's seed draws them from the tickets of one step before anything is known of them, so
    refunded ones are shown too."""
    samples_bytes: int = Field(default=32_000_000, ge=1_000_000)
    """Largest size of ``samples.jsonl``, in bytes. Before the file grows past it, every second look is removed, and
    from then on half as many are taken."""

    def kl_at(self, step: int) -> bool:
        """Whether ``kl_every`` asks for a measurement at training step ``step``."""
        return self.kl_every > 0 and step % self.kl_every == 0
