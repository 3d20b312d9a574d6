"""``leeway audit``: replay the ledger and prove what it promises, from the ledger alone.

The audit checks, line by line: the chain is whole; every ticket is issued once (again only after a rollback), in order,
while there was room under the bound then in force; every ticket ends exactly once, trained or refunded with a reason;
a step trains exactly the groups it names, all of its own stage; no trained token was staler than the bound; no new
ticket asks a prompt that was dropped as solved; at the end nothing is live.

The ledger is read twice, a line at a time. The first reading finds the rollbacks, so that the second, which is the
proof, keeps each state that a rollback goes back to until it is needed. Memory grows with what is live and with the
poisoned groups that may be asked again, not with the ledger: a ticket is issued once and ends once, so what has ended
needs no memory.
"""

from collections import Counter
from copy import deepcopy
from itertools import islice
from pathlib import Path
from typing import Any

from ...common.errors import AuditError
from ...common.ledger import REFUNDS, read, survey, why_other_format
from ...common.lineage import lineage_in
from ...common.wording import counted
from .account import Account
from .drops import Drops
from .groups import wrong_rewards, wrong_spans


def audit(path: Path, *, unfinished: bool = False) -> Account:
    """Replay the ledger at ``path``. ``AuditError`` names the first line that does not hold. With ``unfinished``, a
    ledger without its last line is accepted, and the account says what is live."""
    account = _replay(path)
    if account.lines == 0:
        raise AuditError(f"{path}: the ledger is empty")
    if not account.ended and not unfinished:
        raise AuditError(
            f"{path}:{account.lines + 1}: line {account.lines + 1} is missing: the ledger has no end; if the run is "
            "still going or was killed, audit it with --unfinished"
        )
    return account


def _replay(path: Path) -> Account:
    found = survey(path)
    needed_until = {to_line: line for line, to_line in found.rollbacks}  # of several rollbacks to a line, the last one
    states: dict[int, Account] = {}
    account = Account()
    for line in islice(read(path), found.lines):
        number = line["line"]
        wrong, account = _replayed(account, line, states)
        if wrong is not None:
            raise AuditError(f"{path}:{number}: line {number} ({line.get('event')}): {wrong}")
        account.lines = number
        if needed_until.get(number, 0) > number:
            states[number] = deepcopy(account)
        if line["event"] == "rolled_back" and needed_until[line["to_line"]] == number:
            del states[line["to_line"]]
    return account


def _replayed(account: Account, line: dict[str, Any], states: dict[int, Account]) -> tuple[str | None, Account]:
    """(what is wrong with a line, or None; the account after the line)."""
    try:
        if line["event"] != "rolled_back":
            return _apply(account, line), account
        to_line, number = line["to_line"], line["line"]
        if to_line not in states:
            return f"goes back to line {to_line}, which is not before it", account
        back = deepcopy(states[to_line])
        back.undone, back.awaiting_reissue = account.undone + number - 1 - to_line, set(back.live)
        return None, back
    except KeyError as error:
        return f"has no {error}: another version of Leeway wrote it", account


def _apply(account: Account, line: dict[str, Any]) -> str | None:
    """Take one line into account. Returns what is wrong with it, or None."""
    if account.ended:
        return "stands after the end"
    match line["event"]:
        case "run":
            return why_other_format(line) or _run(account, line)
        case "started":
            return _started(account, line)
        case "stage":
            account.stages_open += 1
            if not line["stage"] == account.stages_open - 1 < len(account.stages):
                return f"stage {line['stage']} of {len(account.stages)} opens out of order"
            first = line.get("ticket", account.next_ticket)  # an older Leeway did not write it
            return None if first == account.next_ticket else f"from ticket {first} on, {account.next_ticket} is next"
        case "sampling":
            return account.drops.look(line, account.version, account.next_ticket)
        case "issued":
            return _issued(account, line)
        case "beside":
            return _beside(account, line)
        case "refunded":
            return _refunded(account, line)
        case "overdue":
            late = line["ticket"] in account.live and line["version"] == account.version
            return None if late else f"ticket {line['ticket']} is late but not live"
        case "batch":
            return _batch(account, line)
        case "trained":
            return _trained(account, line)
        case "step":
            return _step(account, line)
        case "published":
            return _published(account, line)
        case "control":
            if line["name"] == "max_staleness":
                account.max_staleness = line["value"]
            if line["name"] == "overflow":
                account.overflow = line["value"]
            return None if line["version"] == account.version else f"at version {account.version}"
        case "checkpoint":
            if account.unpublished and line["step"] == account.version:
                return f"comes before version {account.version} is published"
            return None if line["step"] <= account.version else f"covers step {line['step']} of {account.version}"
        case "end":
            account.ended = True
            if account.unpublished:
                return f"comes before version {account.version} is published"
            if account.live or account.step_tickets:
                return f"tickets {sorted(account.live)[:5]} are unaccounted for"
            return None if line["version"] == account.version else f"after {counted(account.version, 'step')}"
        case other:
            return f"unknown event {other!r}"


def _run(account: Account, line: dict[str, Any]) -> str | None:
    account.steps, account.stages = line["steps"], line["stages"]
    account.issue_ahead = line["stage_change"] == "finish"
    account.max_staleness, account.overflow = line["max_staleness"], line["overflow"]
    account.inject_lag = line["inject_lag"]
    account.lineage = lineage_in(line)
    if account.lineage:
        books = line["books"]
        account.begun_at = account.version = books["version"]
        account.begun_with = account.next_ticket = books["next_ticket"]
        account.live = {int(ticket): (account.version, stage) for ticket, stage in books["live"].items()}
        account.held = Counter(stage for _, stage in account.live.values())
        account.stages_open, account.drops = books["stages_open"], Drops({*books["dropped"]})
        if account.lineage[0].step != account.version:
            return f"its books stand at version {account.version}, and it comes from step {account.lineage[0].step}"
        if any(ticket >= account.next_ticket for ticket in account.live):
            return f"tickets from {account.next_ticket} on are live before they are issued"
    return None if line["line"] == 1 else "a run begins twice"


def _started(account: Account, line: dict[str, Any]) -> str | None:
    if (why := why_other_format(line)) is not None:
        return why
    if line["incarnation"] <= account.incarnation:
        return f"incarnation {line['incarnation']} after {account.incarnation}"
    if line["version"] != account.version:
        return f"starts at version {line['version']}, the books stand at {account.version}"
    account.incarnation = line["incarnation"]
    return None


def _issued(account: Account, line: dict[str, Any]) -> str | None:
    ticket = line["ticket"]
    if line["incarnation"] != account.incarnation:
        return f"issued by incarnation {line['incarnation']}, now {account.incarnation}"
    if line["version"] != account.version:
        return f"issued at version {line['version']}, the books stand at {account.version}"
    if account.unpublished:
        return f"ticket {ticket} is issued before version {account.version} is published"
    if line["reissued"]:
        if ticket not in account.awaiting_reissue:
            return f"ticket {ticket} is issued again without a rollback"
        account.awaiting_reissue.discard(ticket)
        if line["stage"] != account.live[ticket][1]:
            return f"ticket {ticket} is issued again in stage {line['stage']}, it was of {account.live[ticket][1]}"
        account.live[ticket] = line["version"], line["stage"]
        account.held[line["stage"]] += ticket in account.beside  # it holds its place again, until it is graded
        account.beside.discard(ticket)
        return None
    if "retry_of" in line:
        if line["retry_of"] not in account.poisoned:
            return f"ticket {ticket} retries group {line['retry_of']}, which is not poisoned or was retried before"
        account.poisoned.discard(line["retry_of"])
    if ticket != account.next_ticket:
        return f"ticket {ticket} out of order, {account.next_ticket} is next"
    if line["stage"] >= account.stages_open:
        return f"ticket {ticket} of stage {line['stage']}, which is not open"
    if (wrong := account.drops.asked(line)) is not None:
        return wrong
    live, room = account.held[line["stage"]], _room(account, line["stage"])
    if live >= room:
        return f"ticket {ticket} issued while {live} of stage {line['stage']} are live, the bound allows {room}"
    account.next_ticket += 1
    account.live[ticket] = line["version"], line["stage"]
    account.held[line["stage"]] += 1
    return None


def _room(account: Account, stage: int) -> int:
    """Groups of ``stage`` that may be live: as many as the steps within the bound will take of the stage."""
    if not account.issue_ahead:
        steps = account.max_staleness + 1 if stage == account.stage else 0
    else:
        within = range(account.version, min(account.version + account.max_staleness + 1, account.steps))
        steps = sum(account.stage_of(step) == stage for step in within)
    return steps * account.stages[stage]["groups_per_step"]


def _free(account: Account, ticket: int, stage: int) -> None:
    """A ticket that leaves gives its place back, unless it has done so before."""
    account.held[stage] -= ticket not in account.beside
    account.beside.discard(ticket)


def _beside(account: Account, line: dict[str, Any]) -> str | None:
    ticket = line["ticket"]
    if ticket not in account.live or ticket in account.beside:
        return f"ticket {ticket} gives back a place that it does not hold"
    account.held[account.live[ticket][1]] -= 1
    account.beside.add(ticket)
    return None if line["version"] == account.version else f"at version {account.version}"


def _refunded(account: Account, line: dict[str, Any]) -> str | None:
    if line["reason"] not in REFUNDS:
        return f"unknown reason {line['reason']!r}"
    if line["version"] != account.version:
        return f"refunded at version {line['version']}, the books stand at {account.version}"
    issued = account.live.pop(line["ticket"], None)
    if issued is None:
        return f"ticket {line['ticket']} is refunded but not live"
    _free(account, line["ticket"], issued[1])
    if line["reason"] == "stage_ended" and issued[1] >= account.stage:
        return f"ticket {line['ticket']} is of stage {issued[1]}, which has not ended"
    account.refunded[line["reason"]] += 1
    if line["reason"] == "poison":
        account.poisoned.add(f"{line['ticket']}-{account.incarnation}")
    return None


def _batch(account: Account, line: dict[str, Any]) -> str | None:
    if line["step"] != account.version:
        return f"a batch for step {line['step']}, the books stand at {account.version}"
    if line["max_staleness"] != account.max_staleness:
        return f"bound {line['max_staleness']}, the controls say {account.max_staleness}"
    if line["overflow"] != account.overflow:
        return f"overflow {line['overflow']!r}, the controls say {account.overflow!r}"
    tickets, size = line["tickets"], account.stages[account.stage]["groups_per_step"]
    own = [ticket for ticket, (_, of) in account.live.items() if of == account.stage]
    counted = [ticket for ticket in own if ticket not in account.beside]
    chosen = [ticket for ticket in tickets if ticket not in account.beside]
    if account.overflow == "wait" and chosen != counted[:size]:
        return f"takes tickets {chosen[:5]}…, the oldest live ones are {counted[:5]}…"
    taken, last = set(chosen), max(chosen, default=-1)
    due = [ticket for ticket in own if ticket in taken or (ticket in account.beside and ticket < last)]
    if len(chosen) != size or tickets != due:
        return f"takes tickets {tickets[:5]}…, which are not {size} live ones of stage {account.stage} in order"
    account.batch = tickets
    account.batch_bound, account.batch_overflow = line["max_staleness"], line["overflow"]
    return None


def _trained(account: Account, line: dict[str, Any]) -> str | None:
    ticket, step = line["ticket"], line["step"]
    if ticket in account.step_tickets:
        return f"ticket {ticket} is trained twice"
    if ticket not in account.live:
        ended = " any more: it was trained or refunded before" if ticket < account.next_ticket else ""
        return f"ticket {ticket} is trained but not live{ended}"
    issued_at, stage = account.live.pop(ticket)
    account.trained_beside += ticket in account.beside
    _free(account, ticket, stage)
    if step != account.version:
        return f"trained at step {step}, the books stand at {account.version}"
    if ticket not in account.batch:
        return f"ticket {ticket} is trained but not in the step's batch"
    size = account.stages[account.stage]["group_size"]
    if len(line["spans"]) != size or len(line["verdicts"]) != size:
        return f"{len(line['spans'])} responses and {len(line['verdicts'])} verdicts in a group of {size}"
    if (wrong := wrong_rewards(line, size)) is not None:
        return wrong
    oldest = max(0, issued_at - account.inject_lag)
    wrong = wrong_spans(line, oldest, oldest if account.inject_lag else step)
    if wrong is not None:
        return wrong
    staleness = step - min(span[0] for spans in line["spans"] for span in spans)
    if staleness != line["head_staleness"]:
        return f"head staleness {line['head_staleness']}, its spans say {staleness}"
    if staleness > account.batch_bound and account.batch_overflow in ("wait", "drop"):
        return f"ticket {ticket} is {counted(staleness, 'version')} stale, the bound is {account.batch_bound}"
    spans = [span for of_response in line["spans"] for span in of_response]
    past = sum(end - start for version, start, end in spans if step - version > account.batch_bound)
    if past != line["past_bound"]:
        return f"{counted(line['past_bound'], 'token')} past the bound, its spans say {past}"
    if past == sum(end - start for _, start, end in spans) and account.batch_overflow == "mask":
        return f"ticket {ticket} has no token within the bound"
    account.past_bound[account.batch_overflow] += past
    account.violations += past > 0 and account.batch_overflow == "soft"
    account.trained += 1
    account.step_tickets.append(ticket)
    account.staleness_sum += staleness
    account.worst_staleness = max(account.worst_staleness, staleness)
    return None


def _published(account: Account, line: dict[str, Any]) -> str | None:
    if line["version"] != account.version or not account.unpublished:
        return f"publishes version {line['version']}, the books stand at {account.version}"
    account.unpublished = False
    return None


def _step(account: Account, line: dict[str, Any]) -> str | None:
    if account.unpublished:
        return f"step {line['step']} ends before version {account.version} is published"
    if line["step"] != account.version or line["version"] != account.version + 1:
        return f"step {line['step']} makes version {line['version']}, the books stand at {account.version}"
    if not line["tickets"] == account.step_tickets == account.batch:
        return f"names tickets {line['tickets'][:5]}…, {len(account.step_tickets)} of {len(account.batch)} were trained"
    if (line["max_staleness"], line["overflow"]) != (account.batch_bound, account.batch_overflow):
        return f"bound {line['max_staleness']}, its batch was checked against {account.batch_bound}"
    account.version, account.step_tickets, account.batch = account.version + 1, [], []
    account.unpublished = "checksum" not in line  # an older Leeway wrote the line once the version was published
    return None
