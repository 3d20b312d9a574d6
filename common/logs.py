"""Log lines that say where they come from: run, role, worker, version, ticket. They are text for people, or JSON.

``LEEWAY_LOG=json`` chooses JSON, for every role that inherits it.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

VARIABLE = "LEEWAY_LOG"

_here = threading.local()


@contextmanager
def about(ticket: str) -> Iterator[None]:
    """Within the block, log lines of this thread are about ``ticket`` (a group id)."""
    before = getattr(_here, "ticket", None)
    _here.ticket = ticket
    try:
        yield
    finally:
        _here.ticket = before


class Context(logging.Filter):
    """Puts the facts about the process and the thread on every record."""

    def __init__(self, run: str, role: str) -> None:
        super().__init__()
        self.run, self.role = run, role
        self.worker = ""
        self.version: Callable[[], int] = lambda: -1

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true. A record that names its own ``ticket`` keeps it."""
        record.run, record.role, record.worker, record.version = self.run, self.role, self.worker, self.version()
        if not hasattr(record, "ticket"):
            record.ticket = getattr(_here, "ticket", None)
        return True


class Text(logging.Formatter):
    """``2026-11-24 17:00:00,000 INFO run=r role=rollout version=3 ticket=7-1 name: message``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s run=%(run)s role=%(role)s%(facts)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Facts that are not known are left out."""
        facts = {"version": None if record.version < 0 else record.version, "ticket": record.ticket}  # type: ignore[attr-defined]
        record.facts = "".join(f" {name}={value}" for name, value in facts.items() if value is not None)
        return super().format(record)


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, run, role, worker, version, ticket, logger, message, and trace if there is
    one."""

    def format(self, record: logging.LogRecord) -> str:
        """Unknown version and ticket are null."""
        version = record.version  # type: ignore[attr-defined]
        line = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "run": record.run,  # type: ignore[attr-defined]
            "role": record.role,  # type: ignore[attr-defined]
            "worker": record.worker,  # type: ignore[attr-defined]
            "version": version if version >= 0 else None,
            "ticket": None if record.ticket is None else str(record.ticket),  # type: ignore[attr-defined]
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def begin(run: str, role: str) -> Context:
    """Log to standard error from now on. The caller completes the context when worker and version are known."""
    context = Context(run, role)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(context)
    handler.setFormatter(JsonLines() if os.environ.get(VARIABLE) == "json" else Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    return context
