"""Every fault there is, by name. A fault is a function that strikes a target and says what it hit and how to end it.

A fault finds its victims when it strikes, and draws among them with a random generator of its own. Where there is
nothing to hit, it raises ``NothingThere`` and is tried again for a while.
"""

import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...common.wording import byte_size
from . import damage
from .hanging import busiest
from .hit import Hit, NothingThere
from .pile import pile_up
from .second import second_start
from .target import ROLES, Target, fill, send, whole_checkpoints

Strike = Callable[[Target, random.Random], Hit]
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault."""

    name: str
    weight: float
    needs: str
    """What the fault needs of the target: ``proxy``, ``clock``, ``hanging``, ``disk``, or nothing."""
    strike: Strike

    @property
    def meaning(self) -> str:
        """One line for people."""
        return (self.strike.__doc__ or "").strip().rstrip(".")


FAULTS: dict[str, Fault] = {}


def fault(name: str, weight: float, needs: str = "") -> Callable[[Strike], Strike]:
    """Register a kind of fault; ``weight`` is its share of a timetable."""

    def register(strike: Strike) -> Strike:
        FAULTS[name] = Fault(name, weight, needs, strike)
        return strike

    return register


# --- processes ------------------------------------------------------------------------------------------------------


def _some(target: Target, rng: random.Random, count: int = 1, roles: tuple[str, ...] = ROLES) -> list[tuple[str, int]]:
    found = sorted(target.processes(*roles))
    if len(found) < count:
        raise NothingThere
    return rng.sample(found, count)


def _there(found: Found | None) -> Found:
    """What was found to hit; ``NothingThere`` where that is None or empty."""
    if not found:
        raise NothingThere
    return found


def _told(victims: list[tuple[str, int]]) -> str:
    return ", ".join(f"{role} {pid}" for role, pid in victims)


def _signal(victims: list[tuple[str, int]], signum: signal.Signals) -> None:
    for _, pid in victims:
        send(pid, signum)


def _sent(victims: list[tuple[str, int]], number: signal.Signals) -> Hit:
    _signal(victims, number)
    return Hit(_told(victims))


def _stop(victims: list[tuple[str, int]], lasts_s: float) -> Hit:
    _signal(victims, signal.SIGSTOP)
    return Hit(_told(victims), lasts_s, lambda: _signal(victims, signal.SIGCONT))


@fault("kill", 6)
def kill(target: Target, rng: random.Random) -> Hit:
    """SIGKILL to one process of any role."""
    return _sent(_some(target, rng), signal.SIGKILL)


@fault("kill-several", 2)
def kill_several(target: Target, rng: random.Random) -> Hit:
    """SIGKILL to two or three processes at once."""
    return _sent(_some(target, rng, rng.randint(2, 3)), signal.SIGKILL)


@fault("terminate", 3)
def terminate(target: Target, rng: random.Random) -> Hit:
    """SIGTERM to one process of any role, which leaves in order."""
    return _sent(_some(target, rng), signal.SIGTERM)


@fault("stop", 6)
def stop(target: Target, rng: random.Random) -> Hit:
    """SIGSTOP to one process of any role, SIGCONT some seconds later."""
    return _stop(_some(target, rng), rng.uniform(1, 15))


@fault("stop-role", 1)
def stop_role(target: Target, rng: random.Random) -> Hit:
    """SIGSTOP to every process of a role, SIGCONT some seconds later."""
    role = rng.choice(ROLES)
    return _stop(_some(target, rng, len(target.processes(role)) or 1, (role,)), rng.uniform(1, 12))


@fault("hang", 1.5, needs="hanging")
def hang(target: Target, rng: random.Random) -> Hit:
    """A generation hangs in a rollout worker whose heartbeats go on; let go after two minutes"""
    assert target.hanging is not None
    ((role, pid),) = _some(target, rng, 1, ("rollout",))
    thread = busiest(pid)
    if thread is None or not target.hanging.hang(pid, thread):
        raise NothingThere
    return Hit(f"{role} {pid}, thread {thread}", 120.0, target.hanging.release)


@fault("start-twice", 1)
def start_twice(target: Target, rng: random.Random) -> Hit:
    """The run started a second time, which has to be refused and to touch nothing"""
    return second_start(target)


@fault("kill-grader", 3)
def kill_grader(target: Target, rng: random.Random) -> Hit:
    """SIGKILL to a grading process of a verifier."""
    return _sent([("grader", rng.choice(_there(target.graders())))], signal.SIGKILL)


@fault("stop-grader", 3)
def stop_grader(target: Target, rng: random.Random) -> Hit:
    """SIGSTOP to the grading processes of the verifiers, SIGCONT some seconds later."""
    return _stop([("grader", pid) for pid in _there(target.graders())], rng.uniform(1, 25))


# --- Redis ----------------------------------------------------------------------------------------------------------


@fault("redis-kill", 2)
def redis_kill(target: Target, rng: random.Random) -> Hit:
    """SIGKILL to Redis, which comes back with its append-only file."""
    return _sent([("redis", _there(target.server()))], signal.SIGKILL)


@fault("redis-empty", 1)
def redis_empty(target: Target, rng: random.Random) -> Hit:
    """SIGKILL to Redis, which comes back empty."""
    pid = _there(target.server())
    kept = Path(f"/proc/{pid}/cwd").resolve() / "appendonlydir"
    send(pid, signal.SIGSTOP)  # the server must neither write nor be started again before its file is gone
    shutil.rmtree(kept, ignore_errors=True)
    send(pid, signal.SIGKILL)
    return Hit(f"redis {pid}, and {kept} removed")


@fault("redis-freeze", 0.6)
def redis_freeze(target: Target, rng: random.Random) -> Hit:
    """SIGSTOP to Redis for 30 seconds."""
    return _stop([("redis", _there(target.server()))], 30.0)


@fault("redis-memory", 1)
def redis_memory(target: Target, rng: random.Random) -> Hit:
    """Redis out of memory: maxmemory 1 MB for some seconds."""
    damage.set_memory(target, 1 << 20)
    return Hit("maxmemory 1 MB", rng.uniform(2, 10), lambda: damage.set_memory(target, 0))


# --- the network ----------------------------------------------------------------------------------------------------


@fault("net-cut", 3, needs="proxy")
def net_cut(target: Target, rng: random.Random) -> Hit:
    """Every connection to Redis broken, and none taken for some seconds."""
    proxy = target.proxy
    assert proxy is not None
    proxy.refusing = True

    def end() -> None:
        proxy.refusing = False

    return Hit(f"{proxy.cut()} connections", rng.choice([0.0, rng.uniform(1, 10)]), end)


@fault("net-slow", 2, needs="proxy")
def net_slow(target: Target, rng: random.Random) -> Hit:
    """Everything to and from Redis 50 to 300 ms later, for some seconds."""
    proxy = target.proxy
    assert proxy is not None
    proxy.delay_s = rng.uniform(0.05, 0.3)

    def end() -> None:
        proxy.delay_s = 0.0

    return Hit(f"{proxy.delay_s * 1000:.0f} ms later", rng.uniform(3, 12), end)


# --- the disk -------------------------------------------------------------------------------------------------------


@fault("disk-full", 1.5, needs="disk")
def disk_full(target: Target, rng: random.Random) -> Hit:
    """No room left where checkpoints (and weights, by the file transport) are written, for some seconds."""
    assert target.disk is not None
    ballast = fill(target.disk)
    size = ballast.stat().st_size
    return Hit(f"{byte_size(size)} of ballast", rng.uniform(4, 15), lambda: ballast.unlink(missing_ok=True))


@contextmanager
def _killed_with(victims: list[tuple[str, int]]) -> Iterator[None]:
    """The victims stand still while the caller works on their files, and are killed after it. Where the caller cannot,
    they go on: a fault that failed is tried again, and must not have struck each time."""
    _signal(victims, signal.SIGSTOP)
    try:
        yield
    except BaseException:
        _signal(victims, signal.SIGCONT)
        raise
    _signal(victims, signal.SIGKILL)


@fault("torn-checkpoint", 1)
def torn_checkpoint(target: Target, rng: random.Random) -> Hit:
    """The learner killed and a file of its newest checkpoint cut short; an older one is there."""
    victims = _some(target, rng, 1, ("learner",))
    with _killed_with(victims):
        whole = whole_checkpoints(target.folder)
        if len(whole) < 2:
            raise NothingThere
        torn = rng.choice([path for path in sorted(whole[-1].rglob("*")) if path.is_file() and path.stat().st_size > 1])
        with torn.open("r+b") as file:
            file.truncate(rng.randrange(torn.stat().st_size))
    return Hit(f"{_told(victims)}, {torn.relative_to(target.folder)} cut to {torn.stat().st_size} bytes")


@fault("torn-unfinished", 1)
def torn_unfinished(target: Target, rng: random.Random) -> Hit:
    """The learner killed, and half a checkpoint left as if it had been writing."""
    victims = _some(target, rng, 1, ("learner",))
    with _killed_with(victims):
        newest = _there(whole_checkpoints(target.folder))[-1]
        half = newest.with_name(f"step-{int(newest.name.removeprefix('step-')) + 1:06d}.unfinished")
        half.mkdir(exist_ok=True)
        (half / "half.pt").write_bytes(rng.randbytes(1000))
    return Hit(f"{_told(victims)}, {half.name}")


# --- messages -------------------------------------------------------------------------------------------------------


def _damaging(what: Callable[[Target, random.Random], str | None]) -> Strike:
    def strike(target: Target, rng: random.Random) -> Hit:
        return Hit(_there(what(target, rng)))

    strike.__doc__ = what.__doc__
    return strike


for _name, _weight, _what in (
    ("entry-twice", 3, damage.entry_twice),
    ("entry-moved", 3, damage.entry_moved),
    ("entry-cut", 2, damage.entry_cut),
    ("entry-flipped", 3, damage.entry_flipped),
    ("entry-gone", 2, damage.entry_gone),
    ("logprob-nan", 2, damage.logprob_nan),
    ("observed-moved", 1, damage.observed_moved),
    ("payload-cut", 3, damage.payload_cut),
    ("payload-flipped", 4, damage.payload_flipped),
    ("payload-swapped", 2, damage.payload_swapped),
    ("weights-flipped", 1.5, damage.weights_flipped),
    ("manifest-flipped", 1, damage.manifest_flipped),
):
    fault(_name, _weight)(_damaging(_what))


@fault("leases", 1.5)
def leases(target: Target, rng: random.Random) -> Hit:
    """A live worker with 500 leases, older than the 50 of one that is gone, on prompts or on responses"""
    return pile_up(target, rng)


# --- the clock ------------------------------------------------------------------------------------------------------


@fault("clock", 3, needs="clock")
def clock(target: Target, rng: random.Random) -> Hit:
    """The wall clock of the roles and of Redis up to two hours off, either way, for some seconds."""
    assert target.clock is not None
    ahead_s = rng.choice([-1, 1]) * rng.randint(10, 7200)
    set_clock = target.clock.set
    set_clock(ahead_s)
    return Hit(f"{ahead_s:+d} s", rng.uniform(2, 12), lambda: set_clock(0))
