"""The frame of every role's command: it connects, waits for the run's configuration, works, and ends with a code."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from . import address, logs
from .children import leave_with_parent
from .config import Config, parse, text_in
from .errors import BrokerError, LeewayError
from .exporter import exporting
from .queue.connection import RETRY_S, Connection, RedisError, why_lost
from .queue.consumer import Consumer
from .queue.learner import LearnerQueue
from .queue.member import RunRecord
from .service import Service, worker_name
from .stopping import STOPPED
from .watch import Watch

log = logging.getLogger(__name__)

Queue = TypeVar("Queue", bound=Consumer)


def role_parser(role: str, description: str | None) -> argparse.ArgumentParser:
    """The arguments that every role takes."""
    parser = argparse.ArgumentParser(prog=f"leeway {role}", description=description)
    parser.add_argument("--redis-url", help=address.HELP)
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--wait-s", type=float, default=120.0, help="seconds to wait for the run to be created")
    return parser


def run_role(
    role: str,
    as_user: Callable[[Connection], Queue],
    redis_url: str | None,
    run: str,
    work: Callable[[Queue, Service, Config], None],
    *,
    wait_s: float,
    kept: Path | None = None,
) -> int:
    """Run ``work`` as a worker of ``role`` and return the process's exit code. ``as_user`` makes its view of the run.
    ``kept`` is the file with the configuration of a run that is under way, for a Redis that came back empty while
    nobody was there to put it back.

    A user's mistake ends in one line on standard error and a code of its own; any other error keeps its trace and gives
    code 1. A role that was asked to stop before the run was finished ends with ``STOPPED``, even if it left in order.
    """
    context = logs.begin(run, role)
    supervisor = os.environ.get("LEEWAY_SUPERVISOR")
    if supervisor is not None and sys.platform == "linux":
        leave_with_parent()  # a role that stays behind would work for a run that nobody watches
        if not Path(f"/proc/{supervisor}").exists():  # torchrun may stand between the supervisor and us
            return STOPPED
    try:
        # Under a supervisor, which has seen Redis, it is only away for a moment; others may have named a wrong one.
        patience_s = 0.0 if supervisor is None else RETRY_S
        queue = as_user(Connection(address.resolve(redis_url), run, worker=worker_name(), patience_s=patience_s))
        address.forget()
        try:
            if kept is not None and kept.exists() and not queue.has_run():
                RunRecord(queue.connection).store_config(text_in(kept))
            config = parse(_stored_config(queue, wait_s))
            if role == "learner" and isinstance(queue, LearnerQueue):  # a collector uses this view too
                queue.note_schema()
            else:
                queue.refuse_other_build()
            broker = config.broker
            queue.connection.retry_for(broker.retry_s)
            times = {"lease_s": broker.lease_s, "heartbeat_s": broker.heartbeat_s, "drain_s": broker.drain_s}
            with Service(queue, role, **times) as service, ExitStack() as stack:
                context.worker, context.version = queue.worker, lambda: service.version
                service.stop_on_signals()
                if os.environ.get("RANK", "0") == "0":  # the first of several learner ranks speaks for all
                    watch = None
                    if role == "learner" and isinstance(queue, LearnerQueue):
                        watch = stack.enter_context(Watch(queue, stall_s=broker.stall_s))
                    stack.enter_context(exporting(service, broker, watch))
                work(queue, service, config)
                if service.asked and not service.run_finished():
                    return STOPPED
        except RedisError as error:
            raise BrokerError(why_lost(error)) from error
        finally:
            queue.close()
    except LeewayError as error:
        # In one piece: under torchrun several ranks write to one log, unbuffered, and print writes a line's end apart.
        sys.stderr.write(f"leeway {role}: {error}\n")
        return error.exit_code
    return 0


def _stored_config(queue: Consumer, wait_s: float) -> str:
    """The run's configuration. A worker may start before the learner has stored it, and then waits."""
    deadline = time.monotonic() + wait_s
    while not queue.has_run() and time.monotonic() < deadline:
        log.info("waiting for the run to be created")
        time.sleep(min(1.0, wait_s))
    return queue.load_config()
