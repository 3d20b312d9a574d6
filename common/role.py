"""The frame of every role's command: connect, wait for the run's configuration, work, end with a meaningful code."""

from __future__ import annotations

import argparse
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from . import address, logs
from .config import Config, parse
from .errors import BrokerError, LeewayError
from .exporter import exporting
from .service import Service, worker_name
from .stopping import STOPPED
from .streams import RETRY_S, Bus, RedisError, refused_or_lost
from .watch import Watch

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def role_parser(role: str, description: str | None) -> argparse.ArgumentParser:
    """The arguments that every role takes."""
    parser = argparse.ArgumentParser(prog=f"leeway {role}", description=description)
    parser.add_argument("--redis-url", help=address.HELP)
    parser.add_argument("--run", required=True, help="the run's id")
    parser.add_argument("--wait-s", type=float, default=120.0, help="seconds to wait for the run to be created")
    return parser


def run_role(
    role: str,
    redis_url: str | None,
    run: str,
    work: Callable[[Bus, Service, Config], None],
    *,
    wait_s: float,
    kept: Path | None = None,
) -> int:
    """Run ``work`` as a worker of ``role`` and return the process's exit code. ``kept``: where the configuration of a
    run that has been under way lies, for a Redis that came back empty while nobody was there to put it back.

    A user's mistake is one line on standard error and its own code; anything else keeps its trace and is code 1. A role
    that was asked to stop before the run was finished ends with ``STOPPED``, also one that has put everything in order.
    """
    context = logs.begin(run, role)
    _leave_with_supervisor()
    try:
        # Under a supervisor that has seen Redis it is away for a moment; anybody else may have named a wrong one.
        patience_s = RETRY_S if "LEEWAY_SUPERVISOR" in os.environ else 0.0
        bus = Bus(address.resolve(redis_url), run, worker=worker_name(), patience_s=patience_s)
        address.forget()
        try:
            if kept is not None and kept.exists() and not bus.has_run():
                bus.store_config(kept.read_text())
            config = parse(_stored_config(bus, wait_s))
            broker = config.broker
            times = {"lease_s": broker.lease_s, "heartbeat_s": broker.heartbeat_s, "drain_s": broker.drain_s}
            with Service(bus, role, **times) as service, ExitStack() as stack:
                context.worker, context.version = bus.worker, lambda: service.version
                service.stop_on_signals()
                if os.environ.get("RANK", "0") == "0":  # of several learner ranks the first speaks for all
                    leads = role == "learner"
                    watch = stack.enter_context(Watch(bus, stall_s=broker.stall_s)) if leads else None
                    stack.enter_context(exporting(service, broker, watch))
                work(bus, service, config)
                if service.asked and not service.run_finished():
                    return STOPPED
        except RedisError as error:
            raise BrokerError(f"Redis {refused_or_lost(error)}: {error}") from error
        finally:
            bus.close()
    except LeewayError as error:
        print(f"leeway {role}: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _leave_with_supervisor() -> None:
    """Under ``leeway up``, have the kernel send SIGTERM when the supervisor dies, even by SIGKILL: a role that stays
    behind would work on for a run that nobody watches."""
    supervisor = os.environ.get("LEEWAY_SUPERVISOR")
    if supervisor is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if not Path(f"/proc/{supervisor}").exists():  # it died before we asked
        raise SystemExit(STOPPED)


def _stored_config(bus: Bus, wait_s: float) -> str:
    """The run's configuration; a worker may start before the learner has stored it."""
    deadline = time.monotonic() + wait_s
    while not bus.has_run() and time.monotonic() < deadline:
        log.info("waiting for the run to be created")
        time.sleep(min(1.0, wait_s))
    return bus.load_config()
