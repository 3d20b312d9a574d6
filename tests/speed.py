"""Processor time in units of what this machine does in it, so that no machine is held to a figure in seconds."""

from collections.abc import Callable
from time import process_time


def seconds(work: Callable[[], object]) -> float:
    """For how long ``work`` keeps a processor busy."""
    started = process_time()
    work()
    return process_time() - started


def a_unit() -> float:
    """Seconds for five million steps of a loop: about a twentieth of one."""

    def loop() -> None:
        for _ in range(5_000_000):
            pass

    return seconds(loop)


def units(work: Callable[[], object]) -> float:
    """For how many units ``work`` keeps a processor busy."""
    before, spent = a_unit(), seconds(work)
    return spent / min(before, a_unit())
