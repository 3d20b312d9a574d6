"""Every Redis key of a run, in one place. The hash tag ``{RUN}`` keeps a run on one slot of a Redis Cluster."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import ConfigError

PARTS = ("ticket", "responses", "scores")
"""A group's parts; written by the learner, a rollout worker, a verifier."""

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of one run's keys."""

    run: str

    def __post_init__(self) -> None:
        if not RUN_ID.fullmatch(self.run):
            raise ConfigError(
                f"run id {self.run!r}: use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"
            )

    @property
    def prefix(self) -> str:
        return f"leeway:{{{self.run}}}:"

    @property
    def config(self) -> str:
        """String: the run's resolved configuration (TOML)."""
        return self.prefix + "config"

    @property
    def incarnation(self) -> str:
        """Counter: raised by every start of the learner."""
        return self.prefix + "incarnation"

    @property
    def prompts(self) -> str:
        """Work stream learner -> rollout."""
        return self.prefix + "prompts"

    @property
    def responses(self) -> str:
        """Work stream rollout -> verifier."""
        return self.prefix + "responses"

    @property
    def scored(self) -> str:
        """Work stream verifier -> learner."""
        return self.prefix + "scored"

    @property
    def weights(self) -> str:
        """Broadcast stream of manifests."""
        return self.prefix + "weights"

    @property
    def weight_leases(self) -> str:
        """Sorted set: ``version|worker`` scored by the server's time at which its lease ends."""
        return self.prefix + "weights:leases"

    @property
    def unreadable(self) -> str:
        """String: ``incarnation|version|worker``, of the newest weights that a worker could not read."""
        return self.prefix + "weights:unreadable"

    @property
    def metrics(self) -> str:
        """Stream: what the roles measure; one sink reads it."""
        return self.prefix + "metrics"

    @property
    def controls(self) -> str:
        """Hash: live controls as the operator last set them."""
        return self.prefix + "controls"

    @property
    def state(self) -> str:
        """Hash: what the learner says of the run (version, step, live, waiting on)."""
        return self.prefix + "state"

    @property
    def workers(self) -> str:
        """Sorted set: ``role/worker`` scored by the server's time at which its heartbeat ends."""
        return self.prefix + "workers"

    def types(self) -> dict[str, str]:
        """What lies under every key that is always the same, in the words of TYPE."""
        streams = (self.prompts, self.responses, self.scored, self.weights, self.metrics, self.dead_letters)
        return {
            **dict.fromkeys(streams, "stream"),
            **dict.fromkeys((self.controls, self.state, self.retries, self.alike), "hash"),
            **dict.fromkeys((self.workers, self.weight_leases), "zset"),
            **dict.fromkeys((self.config, self.incarnation, self.unreadable), "string"),
        }

    def verdicts(self, minute: int | str) -> str:
        """Hash with a time to live: how often each verdict was given in one minute, and why the last error was."""
        return f"{self.prefix}verdicts:{minute}"

    @property
    def alike(self) -> str:
        """Hash: how many groups in a row had one and the same reward throughout, and which."""
        return self.prefix + "alike"

    @property
    def dead_letters(self) -> str:
        """Stream: messages that did not decode or kept failing, with the reason."""
        return self.prefix + "dead"

    @property
    def retries(self) -> str:
        """Hash: poisoned groups whose prompt an operator wants again -> the ticket that took it over, or empty."""
        return self.prefix + "retries"

    def group(self, group_id: str, part: str) -> str:
        """String: one part of a group, of ``PARTS``. Each has one writer, so a server can hold every role to its own
        (``leeway acl``)."""
        assert part in PARTS
        return f"{self.prefix}group:{group_id}:{part}"

    def parts(self, group_id: str) -> list[str]:
        """All keys of a group."""
        return [self.group(group_id, part) for part in PARTS]

    def weight_chunk(self, version: int, incarnation: int, index: int) -> str:
        """String: one piece of a version's payload."""
        return f"{self.prefix}weights:{incarnation}:{version}:{index}"

    def heartbeat(self, role: str, worker: str) -> str:
        """String with a time to live: the worker's last heartbeat."""
        return f"{self.prefix}heartbeat:{role}/{worker}"
