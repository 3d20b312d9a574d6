"""The wire types: the messages between the roles. This file is the protocol's dictionary.

A group is three strings in Redis, each written once by one role::

    ticket     learner  -> rollout    Ticket
    responses  rollout  -> verifier   Responses
    scores     verifier -> learner    Scores

Work streams carry only the group's id (claim check). Names of arrays end in their shape: ``_P`` prompt tokens, ``_S``
the G responses of one group, ``_T`` the tokens of all responses one after the other.
"""

import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np

from .activity import Doing

RARE = MappingProxyType({"rare": True})
"""Marks trailing fields that stay off the wire where they have their default: who does not use them pays no byte."""


def _constant(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


NOTHING_OBSERVED = _constant(np.zeros((0, 3), np.uint32))
NO_ENVIRONMENT = _constant(np.zeros(0, np.float64))
"""``Responses.observed`` and ``Responses.environment_S`` of a run without an environment."""


class VerdictKind(StrEnum):
    """What a grader found. ``CORRECT`` is a reward of 1 and ``SCORED`` a number of its own. The others are a reward of
    0, but ``ERROR``, which is our own failure and is never trained on."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    """There is no answer to grade: the response is truncated, boxes nothing, or never closes its reasoning."""
    TIMEOUT = "timeout"
    """Grading overran its clock or its memory in a process that had the processor. The response caused that, so it gets
    no reward (``verifier.on_timeout``)."""
    ERROR = "error"
    """The verifier failed (a lost process, a starved machine, a reward function that raises or gives no number).
    Grading is retried, then the group is refunded."""
    SCORED = "scored"
    """The reward is ``Verdict.score``: a function gave it, or several rewards make it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One group to be generated: a prompt, how many responses, and how to sample them."""

    ticket: int
    """The group's number in issue order. With the run's seed it decides the prompt and every sampling seed."""
    incarnation: int
    """Which start of the learner issued the ticket. Work of an older one is recognised and refused."""
    min_version: int
    """The version at issue. A worker must hold at least this version before it samples the first token."""
    stage: int
    """Index of the stage that the ticket belongs to."""
    prompt_id: str
    """Where the prompt came from: ``<source>:<row>``."""
    prompt_tokens_P: np.ndarray
    """The prompt after the chat template. Unsigned integers, shape [P]."""
    group_size: int
    """G, the number of responses to sample."""
    max_new_tokens: int
    """The longest that a response may be, in tokens. One that reaches it without an end token is truncated."""
    temperature: float
    """Sampling temperature τ; behaviour log-probabilities are of logits/τ."""
    seed: int
    """Sampling seed of the group. If an engine samples responses one by one, response j uses ``seed + j``."""
    ability: str
    """Which grader judges the responses: one of ``ground_truth.ABILITIES``."""
    ground_truth: tuple[str, ...]
    """What the grader compares with. For ``math``: golds, as alternatives. For ``code``: one JSON text, the tests."""
    top_p: float = 1.0
    """Sample from the fewest tokens that together have this probability. In training 1, the whole distribution."""
    row: str = field(default="", metadata=RARE)
    """The prompt's row as one JSON object, where a reward function is given it; else empty."""

    @property
    def group_id(self) -> str:
        """The group's name on the wire. A ticket that a later incarnation issues again is another group."""
        return f"{self.ticket}-{self.incarnation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """The G responses of one group, one after the other in flat arrays.

    Where there is an environment, a response is the whole conversation behind the prompt: tokens that the policy
    sampled and tokens that it observed, in order. It begins and ends with a sampled token.
    """

    group_id: str
    tokens_T: np.ndarray
    """All tokens, sampled and observed, end tokens included. Unsigned integers, shape [T]."""
    logprobs_T: np.ndarray
    """Behaviour log-probabilities log μ of the sampled tokens under logits/τ. float32, nats, shape [T]. NaN at observed
    tokens, which have none."""
    lengths_S: np.ndarray
    """All tokens of each response. uint32, shape [G]; sums to T."""
    finished_S: np.ndarray
    """1 where the response ended by an end token, or the environment ended the conversation; 0 where it was truncated.
    Unsigned integers, shape [G]."""
    spans: np.ndarray
    """Which version sampled which tokens: rows (response, version, start, end), ``end`` exclusive, token positions
    within the response. uint32, shape [n, 4]; in order, versions never falling. Together with ``observed`` the rows of
    a response cover 0..length without gap or overlap."""
    worker: str
    """The worker that generated the group."""
    seconds: float
    """Wall time from the start of generation to its end."""
    observed: np.ndarray = field(default_factory=lambda: NOTHING_OBSERVED, metadata=RARE)
    """Which tokens the environment wrote, with what the chat template puts around them: rows (response, start, end),
    ``end`` exclusive, token positions within the response, in order. uint32, shape [n, 3]."""
    environment_S: np.ndarray = field(default_factory=lambda: NO_ENVIRONMENT, metadata=RARE)
    """The sum of each response's turn rewards. float64, shape [G], finite; shape [0] without an environment."""

    @property
    def fingerprint(self) -> int:
        """CRC-32 of the lengths and tokens. It tells whether scores judge these responses or others."""
        return zlib.crc32(self.tokens_T.astype("<u4").tobytes(), zlib.crc32(self.lengths_S.astype("<u4").tobytes()))

    @property
    def sampled_T(self) -> np.ndarray:
        """Whether the policy sampled the token. bool, shape [T]."""
        sampled_T = np.ones(len(self.tokens_T), dtype=bool)
        starts_S = np.cumsum(self.lengths_S, dtype=np.int64) - self.lengths_S
        for response, start, end in self.observed.astype(np.int64):
            sampled_T[starts_S[response] + start : starts_S[response] + end] = False
        return sampled_T

    @property
    def sampled_S(self) -> np.ndarray:
        """Sampled tokens of each response. int64, shape [G]."""
        sampled_S = self.lengths_S.astype(np.int64)
        rows = self.observed.astype(np.int64)
        np.subtract.at(sampled_S, rows[:, 0], rows[:, 2] - rows[:, 1])
        return sampled_S

    @property
    def turns_S(self) -> np.ndarray:
        """Turns of each response: how many times the policy was asked. int64, shape [G]."""
        return 1 + np.bincount(self.observed[:, 0].astype(np.int64), minlength=len(self.lengths_S))


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one of several rewards gave a response, before its weight."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One response's grade."""

    kind: VerdictKind
    reason: str
    """One short sentence for people; empty if the kind says it all."""
    seconds: float
    """Wall seconds spent grading."""
    peak_bytes: int = 0
    """Most memory that the grading processes held at one time, in bytes; 0 if nothing was started for the response."""
    score: float | None = field(default=None, metadata=RARE)
    """The reward, where the kind alone does not say it. Finite."""
    parts: tuple[Part, ...] = field(default=(), metadata=RARE)
    """The value of each of the run's ``[[rewards]]``, in their order; empty where there are none."""

    @property
    def reward(self) -> float:
        """r: ``score``, or else 1 for ``CORRECT`` and 0 for the other kinds (report 2.2). Meaningless for ``ERROR``,
        which must never reach the learner's batch."""
        assert self.kind is not VerdictKind.ERROR
        if self.score is not None:
            return self.score
        return 1.0 if self.kind is VerdictKind.CORRECT else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The verdicts of one group, in response order."""

    group_id: str
    verdicts: tuple[Verdict, ...]
    graded: int
    """``Responses.fingerprint`` of the graded responses, as the group may be generated again while it is graded."""
    worker: str
    """The worker that graded the group."""

    @property
    def rewards_S(self) -> np.ndarray:
        """r of each response. float64, shape [G]."""
        return np.asarray([verdict.reward for verdict in self.verdicts], dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor inside a published version."""

    name: str
    dtype: str
    """torch name without the prefix: ``bfloat16``, ``float32``."""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A piece of a version's flat, uncompressed weights. It is encoded, digested and read by itself."""

    offset: int
    """Where it begins in the flat buffer, in bytes."""
    bytes: int
    digest: str
    """sha256 (hex) of its bytes, decoded: the same whether they are read from a keyframe or from a delta."""


class Encoding(StrEnum):
    """How a payload's shards are stored."""

    RAW = "raw"
    """As they are."""
    PLANES = "planes"
    """A zstd frame each, of their byte planes (``delta.py``)."""
    DELTA = "delta"
    """As ``PLANES``, of their XOR with the same shard of another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One way to read a version: whole, or against another one."""

    base: int | None
    """The version that this delta is against; ``None`` for a keyframe."""
    encoding: Encoding
    stored: tuple[int, ...]
    """Bytes stored of each shard, after compression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Announces one whole version of the weights. Readers trust a shard only after its digest matches."""

    version: int
    incarnation: int
    transport: str
    """``redis`` or ``file``."""
    tensors: tuple[TensorInfo, ...]
    """The tensors, in the order of their bytes in the flat buffer."""
    full_bytes: int
    """Bytes of the flat, uncompressed weights."""
    shards: tuple[Shard, ...]
    """The pieces of the flat buffer, end to end."""
    payloads: tuple[Payload, ...]
    """A keyframe, a delta, or both: who follows reads the delta, and who joins late the keyframe."""
    checksum: str
    """Digest of the shards' digests (``shards.py``), the same however the version is read."""

    @property
    def keyframe(self) -> Payload | None:
        """The payload that holds the version whole, if it has one."""
        return next((payload for payload in self.payloads if payload.base is None), None)

    @property
    def delta(self) -> Payload | None:
        """The payload against an older version, if it has one."""
        return next((payload for payload in self.payloads if payload.base is not None), None)

    @property
    def payload_bytes(self) -> int:
        """Bytes stored, in all payloads."""
        return sum(sum(payload.stored) for payload in self.payloads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a worker says about itself every few seconds. Its key expires when the worker stops."""

    role: str
    """``rollout``, ``verifier``, ``learner`` or ``collector`` (an evaluation's)."""
    worker: str
    """Unique name: host, process id, start."""
    version: int
    """Version of the weights in use; -1 if none is loaded or the role has none."""
    doing: Doing
    since: float
    """Unix time at which the worker began to do that, by the server's clock."""
    done: int
    """Groups (learner: training steps) finished since the worker started."""
    tokens: int
    """Tokens sampled or trained since the worker started (verifier: 0)."""
    busy_s: float
    """Seconds spent working, as opposed to waiting, since the worker started."""
    started: float
    """Unix time of the start, by the server's clock."""
    resident_bytes: int = 0
    """Memory of the host that the worker and the processes it has started hold now; 0 where it is not known."""
