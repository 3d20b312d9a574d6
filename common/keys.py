"""Every Redis key of a run, in one place. The hash tag ``{RUN}`` keeps a run on one slot of a Redis Cluster."""

import re

from .errors import ConfigError

PARTS = ("ticket", "responses", "scores")
"""A group's parts, which the learner, a rollout worker and a verifier write, in this order."""

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Keys:
    """The names of one run's keys. ``ConfigError`` if the run's id is unusable."""

    def __init__(self, run: str) -> None:
        if not RUN_ID.fullmatch(run):
            raise ConfigError(
                f"run id {run!r}: use 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit"
            )
        self.run = run
        self.prefix = f"leeway:{{{run}}}:"
        self.config = self.prefix + "config"
        """String: the run's resolved configuration (TOML), under a comment with the schema of its messages."""
        self.incarnation = self.prefix + "incarnation"
        """Counter: raised by every start of the learner."""
        self.prompts = self.prefix + "prompts"
        """Work stream learner -> rollout."""
        self.responses = self.prefix + "responses"
        """Work stream rollout -> verifier."""
        self.scored = self.prefix + "scored"
        """Work stream verifier -> learner."""
        self.weights = self.prefix + "weights"
        """Broadcast stream of manifests."""
        self.weight_leases = self.prefix + "weights:leases"
        """Sorted set: ``version|worker`` scored by the server's time at which its lease ends."""
        self.unreadable = self.prefix + "weights:unreadable"
        """String: ``incarnation|version|worker`` of the newest weights that a worker could not read."""
        self.metrics = self.prefix + "metrics"
        """Stream: what the roles measure. One sink reads it."""
        self.controls = self.prefix + "controls"
        """Hash: live controls as the operator last set them."""
        self.state = self.prefix + "state"
        """Hash: what the learner says of the run (version, step, live, doing)."""
        self.workers = self.prefix + "workers"
        """Sorted set: ``role/worker`` scored by the server's time at which its heartbeat ends."""
        self.alike = self.prefix + "alike"
        """Hash: how many groups in a row had one and the same reward throughout, and which."""
        self.dead_letters = self.prefix + "dead"
        """Stream: messages that did not decode or kept failing, with the reason."""
        self.retries = self.prefix + "retries"
        """Hash: poisoned groups whose prompt an operator wants again -> the ticket that took it over, or empty."""

    def types(self) -> dict[str, str]:
        """The type of each key whose name is fixed, as the command TYPE names it."""
        streams = (self.prompts, self.responses, self.scored, self.weights, self.metrics, self.dead_letters)
        return {
            **dict.fromkeys(streams, "stream"),
            **dict.fromkeys((self.controls, self.state, self.retries, self.alike), "hash"),
            **dict.fromkeys((self.workers, self.weight_leases), "zset"),
            **dict.fromkeys((self.config, self.incarnation, self.unreadable), "string"),
        }

    def verdicts(self, minute: int | str) -> str:
        """Hash with a time to live: how often each verdict was given in one minute, and the reason of the last
        error."""
        return f"{self.prefix}verdicts:{minute}"

    def group(self, group_id: str, part: str) -> str:
        """String: one part (of ``PARTS``) of a group. Each has one writer, so a server can hold every role to its own
        (``leeway acl``)."""
        assert part in PARTS
        return f"{self.prefix}group:{group_id}:{part}"

    def parts(self, group_id: str) -> list[str]:
        """The keys of all parts of a group."""
        return [self.group(group_id, part) for part in PARTS]

    def weight_value(self, version: int, incarnation: int, name: str) -> str:
        """String: one value of a version's payload (``common/queue/weights.py`` names them)."""
        return f"{self.prefix}weights:{incarnation}:{version}:{name}"

    def heartbeat(self, role: str, worker: str) -> str:
        """String with a time to live: the worker's last heartbeat."""
        return f"{self.prefix}heartbeat:{role}/{worker}"
