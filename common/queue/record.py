"""What a run says of itself: set by the learner and the desk, read by everybody."""

from __future__ import annotations

from .connection import Connection


class RunRecord:
    """The run's configuration, and the learner's word on how it stands."""

    def __init__(self, connection: Connection) -> None:
        self.keys, self._redis = connection.keys, connection.redis

    def store_config(self, text: str) -> None:
        """Keep the run's resolved configuration where every role finds it."""
        self._redis.set(self.keys.config, text)

    def set_state(self, **values: str | int | float) -> None:
        """The learner's word on the run, for the desk."""
        self._redis.hset(self.keys.state, mapping={key: str(value) for key, value in values.items()})
