"""A Prometheus endpoint for one role: it exports the role's heartbeat, and at the learner what ``leeway status`` shows.

It is off unless ``broker.metrics_port`` (or ``LEEWAY_METRICS_PORT``) names a port. Numbers are read at the scrape.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from .config import Broker
from .diagnosis import timeless
from .errors import ConfigError
from .metrics import measured
from .queue.entries import whole
from .service import Service

if TYPE_CHECKING:
    from .watch import Watch

log = logging.getLogger(__name__)

VARIABLE = "LEEWAY_METRICS_PORT"
"""Environment variable that stands in for ``broker.metrics_port``: processes of one machine need a port each."""
HOST = "LEEWAY_METRICS_HOST"
"""Environment variable that stands in for ``broker.metrics_host``: a container is read from outside it."""

_STATE = ("step", "steps", "stage", "live", "ready", "max_staleness", "pipeline_depth", "incarnation")


@contextmanager
def exporting(service: Service, broker: Broker, watch: Watch | None) -> Iterator[None]:
    """Serve within the block if a port is configured. ``ConfigError`` if the library is missing."""
    port = int(os.environ.get(VARIABLE) or broker.metrics_port)
    host = os.environ.get(HOST) or broker.metrics_host
    if port == 0:
        yield
        return
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as error:
        raise ConfigError("broker.metrics_port needs prometheus-client: pip install 'leeway-rl[metrics]'") from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(service, watch))
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise ConfigError(f"broker.metrics_port = {port}: cannot serve at {host}: {error.strerror}") from error
    log.info("metrics at http://%s:%d/metrics", host, port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run_served_at(host: str, port: int) -> str | None:
    """The run of the role that serves its numbers at an address of this machine; None if none does."""
    try:
        with closing(HTTPConnection(host, port, timeout=5)) as asked:
            asked.request("GET", "/metrics")
            shown = asked.getresponse().read().decode(errors="replace")
    except (OSError, HTTPException):
        return None
    found = re.search(r'^leeway_started_seconds\{[^}]*\brun="([^"]*)"', shown, re.MULTILINE)
    return found[1] if found else None


class _Collector:
    def __init__(self, service: Service, watch: Watch | None) -> None:
        self._service, self._watch = service, watch

    def collect(self) -> Iterator[Any]:
        """Every number, with the labels run, role and worker."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        beat, queue = self._service.heartbeat(), self._service.queue
        labels = {"run": queue.run, "role": beat.role, "worker": beat.worker}
        counted = (
            ("leeway_done", "Groups (learner: training steps) finished.", beat.done),
            ("leeway_tokens", "Tokens generated or trained.", beat.tokens),
            ("leeway_busy_seconds", "Seconds spent working, as opposed to waiting.", beat.busy_s),
            ("leeway_payload_out_bytes", "Payload bytes written to Redis.", queue.connection.bytes_out),
            ("leeway_payload_in_bytes", "Payload bytes read from Redis.", queue.connection.bytes_in),
        )
        gauges = (
            ("leeway_started_seconds", "Unix time of the start.", beat.started),
            ("leeway_resident_bytes", "Memory of the host, with the processes it has started.", beat.resident_bytes),
            ("leeway_version", "Version of the weights in use; -1 for none.", beat.version),
            (
                "leeway_activity_seconds",
                "How long it has done or waited for the same thing.",
                self._service.now() - beat.since,
            ),
        )
        for kind, families in ((CounterMetricFamily, counted), (GaugeMetricFamily, (*gauges, *self._of_the_run()))):
            for found in families:
                yield _family(kind, labels, *found)

    def _of_the_run(self) -> list[tuple[Any, ...]]:
        """Gauges of what ``leeway status`` shows, as ``_family`` takes them; none before the first look."""
        if self._watch is None or self._watch.snapshot is None or self._watch.found is None:
            return []
        now, found, stalled = self._watch.snapshot, self._watch.found, self._watch.stalled
        # Reasons stand without their numbers, so that a series lasts as long as its cause.
        reasons = {} if stalled is None else {timeless(stalled): 1}
        alarms = dict.fromkeys(map(timeless, found.alarms), 1)
        lost = Counter(name.partition("/")[0] for name in now.lost)
        return [
            *(
                (f"leeway_run_{name}", f"The learner's {name.replace('_', ' ')}.", whole(now.state[name]))
                for name in _STATE
                if now.state.get(name, "").isdecimal()
            ),
            ("leeway_stream_entries", "Queued or under way.", now.queued, "stream"),
            ("leeway_stream_taken", "Of those, what a worker holds.", now.under_way, "stream"),
            ("leeway_workers", "Living workers.", Counter(worker.role for worker in now.workers), "of"),
            ("leeway_workers_lost", "Workers whose heartbeat has expired.", lost, "of"),
            ("leeway_stalled", "1 where nothing will move until somebody acts.", int(stalled is not None)),
            ("leeway_stall", "1, with the reason of the stall.", reasons, "reason"),
            ("leeway_alarm", "1 for each alarm, with its reason.", alarms, "reason"),
            (
                "leeway_measured",
                "Of the last training step, by the names of metrics.jsonl.",
                measured(self._service.queue.last_record),
                "name",
            ),
        ]


def _family(kind: Any, labels: dict[str, str], name: str, what: str, values: Any, label: str | None = None) -> Any:
    """The family of one number, or with ``label`` of a number for each of the label's values."""
    family = kind(name, what, labels=[*labels, *([label] if label else [])])
    for key, number in (values if label else {None: values}).items():
        family.add_metric([*labels.values(), *([key] if label else [])], number)
    return family
