"""The proof that a run survives what ``leeway chaos`` does to it.

::

    python tests/proofs/chaos.py [strict] [bound] [empty] [reclaim] [apart] [--seed 0] [--out runs/chaos]

``strict``: at max_staleness 0 a run under faults of every kind ends with the weights of an undisturbed one, bit for
bit. ``bound``: at max_staleness 2 a run under the same faults keeps its books and its bound, and makes at least
``SHARE`` of the training steps that an undisturbed one makes in the same time. ``empty``: Redis comes back empty ten
times, and each time the next training step is made within ``BACK_S`` seconds. ``reclaim``: behind 500 leases of a live
worker, 50 groups of a killed one are in work again within ``broker.lease_s`` + ``LATE_S``, on prompts and on responses.
``apart``:
learner ranks without a shared disk (``ranks_apart.py``). What is finished under --out is not run again.
"""

from __future__ import annotations

import json
import sys
import tempfile
from math import inf
from pathlib import Path
from typing import NamedTuple

from leeway_rl.benchmarks.measure import parser_of
from leeway_rl.common.ledger import is_complete, published_checksum
from leeway_rl.common.metrics import read_steps
from leeway_rl.common.queue.entries import WorkStream
from leeway_rl.leeway.chaos.faults import FAULTS
from leeway_rl.leeway.chaos.reclaim import reclaim
from leeway_rl.leeway.chaos.run import begun, rehearse
from leeway_rl.leeway.chaos.timetable import timetable
from leeway_rl.leeway.proving.audit import audit
from leeway_rl.tests.proofs import ranks_apart

SHARE, BACK_S, LEAST_FAULTS, LEAST_STEPS = 0.7, 30.0, 200, 100
LIVE, DEAD, LEASE_S, LATE_S = 500, 50, 5.0, 5.0
FRESH = 4
"""At max_staleness 2 the groups of at most three steps may have been ready; the fourth step after a loss has new
ones."""
WORKERS = ["rollout.workers=2", "verifier.workers=2", f"broker.lease_s={LEASE_S}", "broker.heartbeat_s=1"]
"""A machine of two cores has its learner and these; a lease of 5 s, because a group of this model takes under one."""
PATIENT = ["broker.max_attempts=10", "broker.generation_s=20", "broker.drain_s=20"]
"""It is not the group's fault where a delivery ends because somebody killed the worker. A generation of this model
takes a second or two, so one that hangs is noticed within half a minute."""

LONG = ["train.groups_per_step=64"]
"""A step takes a second or more, so that a run is not over before its faults are, even on a quiet machine."""
STEADY = "train.learning_rate=1e-6"
"""Learning is so slow that lengths and refused groups stay what they are: any 120 steps take as long as any others."""


def ran(
    out: Path,
    run: str,
    settings: list[str],
    *,
    seed: int = 0,
    count: int = 0,
    every_s: float = 0.0,
    per_step: float = inf,
    only: tuple[str, ...] = (),
) -> Path:
    """Run ``run`` under ``count`` faults, unless it is there already; returns its folder."""
    folder = out / run
    if not is_complete(folder):
        plan = timetable(seed, count, every_s, {name: FAULTS[name].weight for name in only or FAULTS}) if count else []
        with begun(run, out, ["tiny"], [*WORKERS, *PATIENT, *LONG, *settings]) as (target, process):
            tally = rehearse(target, plan, lambda: process.poll() is None, per_step)
            code = process.wait()
        print(f"{run}: ended with code {code}; {' '.join(f'no {name}: {why}' for name, why in target.missing.items())}")
        if count:
            print(tally.table(), flush=True)
        if code:
            raise SystemExit(code)
    return folder


class Struck(NamedTuple):
    """What a run's ``chaos.jsonl`` says."""

    faults: int
    kinds: int
    steps: int
    """Training steps made from the first fault to the last, those that were rolled back not counted."""
    seconds: float
    """Seconds from the first fault to the last."""


def struck(folder: Path) -> Struck:
    """Read the log of the run in ``folder``. Its times are the driver's: the run's own clock was set."""
    lines = [json.loads(line) for line in (folder / "chaos.jsonl").read_text().splitlines()]
    strikes = [line for line in lines if line["event"] == "strikes"]
    first, last = lines[0], lines[-1]
    kinds = {line["kind"] for line in strikes}
    return Struck(len(strikes), len(kinds), last["steps"] - first["steps"], last["at"] - first["at"])


def weights(folder: Path, version: int) -> str:
    """The checksum of a version's weights, from the ledger."""
    return published_checksum(folder / "ledger.jsonl", version)


def speed(folder: Path) -> float:
    """Training steps a second of an undisturbed run, from its first step to its last."""
    steps = read_steps(folder)
    return (len(steps) - 1) / float(steps[-1]["at"] - steps[0]["at"])


def strict(out: Path, seed: int) -> bool:
    """Whether the weights are the same, whatever happens."""
    settings = ["flow.max_staleness=0", "train.steps=125", "train.checkpoint_every=5"]
    calm = ran(out, "strict-calm", settings)
    hurt = ran(out, f"strict-{seed}", settings, seed=seed, count=240, every_s=2.0, per_step=2.0)
    account, found = audit(hurt / "ledger.jsonl"), struck(hurt)
    before, after = weights(calm, account.version), weights(hurt, account.version)
    print(
        f"strict, seed {seed}: {found.faults} faults of {found.kinds} kinds over {found.steps} steps in "
        f"{found.seconds:.0f} s (undisturbed {found.steps / speed(calm):.0f} s), {account.incarnation} starts of the "
        f"learner\n  undisturbed   {before}\n  under faults  {after}\n  "
        + ("equal, bit for bit" if before == after else "THE WEIGHTS DIFFER")
    )
    print(account.describe(), flush=True)
    return before == after and found.faults >= LEAST_FAULTS and found.steps >= LEAST_STEPS


def bound(out: Path, seed: int) -> bool:
    """Whether the bound and the books hold, and most of the speed is kept."""
    settings = ["flow.max_staleness=2", "train.checkpoint_every=5", STEADY]
    calm = ran(out, "bound-calm", [*settings, "train.steps=120"])
    faults, every_s = 215, 10.0
    steps = round(0.95 * faults * every_s * speed(calm))  # not done before the schedule is, nor long after
    hurt = ran(out, f"bound-{seed}", [*settings, f"train.steps={steps}"], seed=seed, count=faults, every_s=every_s)
    account, found = audit(hurt / "ledger.jsonl"), struck(hurt)
    pace = found.steps / found.seconds
    share = pace / speed(calm)
    print(
        f"bound, seed {seed}: {found.faults} faults of {found.kinds} kinds over {found.steps} steps in "
        f"{found.seconds:.0f} s, {account.incarnation} starts of the learner; {60 * pace:.1f} steps a minute, "
        f"undisturbed {60 * speed(calm):.1f}: {share:.2f} (must hold: {SHARE})"
    )
    print(account.describe(), flush=True)
    return share >= SHARE and found.faults >= LEAST_FAULTS and found.steps >= LEAST_STEPS


def empty(out: Path, seed: int) -> bool:
    """Whether the run goes on in time when everything in Redis is lost, ten times."""
    settings = ["flow.max_staleness=2", "train.steps=200", "train.checkpoint_every=1000", STEADY]
    hurt = ran(out, f"empty-{seed}", settings, seed=seed, count=10, every_s=15.0, only=("redis-empty",))
    account, steps = audit(hurt / "ledger.jsonl"), [step["at"] for step in read_steps(hurt)]
    lines = [json.loads(line) for line in (hurt / "chaos.jsonl").read_text().splitlines()]
    emptied = [line["at"] for line in lines if line["event"] == "strikes"]
    after = [[at - when for at in steps if at > when] for when in emptied]
    if min(map(len, after), default=0) < FRESH:
        print(f"empty, seed {seed}: the run was over before the {len(emptied)} faults were: take more steps")
        return False
    first, fresh = max(waits[0] for waits in after), max(waits[FRESH - 1] for waits in after)
    print(
        f"empty, seed {seed}: Redis came back empty {len(emptied)} times; at most {first:.1f} s from its death to the "
        f"next training step (must hold: {BACK_S:g}), {fresh:.1f} s to one of groups that were all generated since"
    )
    print(account.describe())
    return len(emptied) == 10 and first <= BACK_S


def reclaims(out: Path, seed: int) -> bool:
    """Whether what a dead worker held comes back in time. Nothing is drawn, so ``seed`` changes nothing."""
    held = True
    for stream in (WorkStream.PROMPTS, WorkStream.RESPONSES):
        with tempfile.TemporaryDirectory() as folder:
            found = reclaim(Path(folder), stream, live=LIVE, dead=DEAD, lease_s=LEASE_S)
        print(
            f"reclaim, {stream}: {found.back} of {DEAD} back {found.seconds:.1f} s after the death, {found.stolen} of "
            f"{LIVE} taken from the worker that lives (must hold: {DEAD}, {LEASE_S + LATE_S:g}, 0)",
            flush=True,
        )
        held &= (found.back, found.stolen) == (DEAD, 0) and found.seconds <= LEASE_S + LATE_S
    return held


def apart(out: Path, seed: int) -> bool:
    """Whether learner ranks that do not share a disk are refused. This runs anew each time, and ``seed`` is not
    used."""
    with tempfile.TemporaryDirectory() as home:
        return ranks_apart.proof(Path(home))


def main() -> int:
    """Run what is asked for; exit code 1 where something does not hold."""
    parser = parser_of(__doc__, seed=0)
    parser.add_argument("parts", nargs="*", metavar="PART", help="strict, bound, empty, reclaim, apart; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/chaos"))
    given = parser.parse_args()
    parts = {"strict": strict, "bound": bound, "empty": empty, "reclaim": reclaims, "apart": apart}
    unknown = set(given.parts) - set(parts)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    held = {name: parts[name](given.out, given.seed) for name in given.parts or parts}
    print("\n".join(f"{name:<8}{'holds' if good else 'DOES NOT HOLD'}" for name, good in held.items()))
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
