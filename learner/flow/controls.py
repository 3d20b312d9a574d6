"""Takes up the live controls that an operator sets, and applies what turns the bound as well: the guard, and the
controller of a bound that is ``auto``. Every turn is recorded."""

import logging
from collections.abc import Callable
from queue import SimpleQueue
from typing import Literal

from ...common.config import Config, MaxStaleness
from ...common.controls import AT_A_STEP, taken_up
from ...common.errors import ConfigError
from ...common.ledger import Ledger
from ...common.profiles import FIELD, Answer, Request, to_json
from ...common.queue.learner import LearnerQueue
from .auto_bound import AutoBound, Standing
from .guard import Guard
from .idling import Cycle
from .tickets import TicketBook

log = logging.getLogger(__name__)

OnTurn = Callable[[str, float | str, float | str, int, str], object]


class LiveControls:
    """The controls that may be turned while the run goes on. The book holds those that issuing and batches go by; the
    others are here."""

    def __init__(
        self, queue: LearnerQueue, book: TicketBook, ledger: Ledger, config: Config, *, on_turn: OnTurn
    ) -> None:
        """``on_turn`` is called for each control that is turned, with its name, the value before and now, the version,
        and who turned it."""
        self._queue, self._book, self._ledger, self._config, self._on_turn = queue, book, ledger, config, on_turn
        self.guard = Guard(least_ess=config.flow.least_ess, patience=config.flow.guard_patience)
        self.auto = AutoBound.of(config.flow)
        self.asked_bound: MaxStaleness = config.flow.max_staleness
        """η as the operator asks for it. The book's is what the guard makes of a number, or what ``auto`` chooses."""
        self.profiles: SimpleQueue[Request] = SimpleQueue()
        """Profiles that were asked for, until the training loop takes them."""
        self.target_entropy: float | Literal["stage"] = "stage"
        """The target that an operator has set for every stage, or each stage's own. The training loop reads it at every
        step."""
        self.learning_rate: float | Literal["stage"] = "stage"
        """``train.learning_rate`` as an operator has set it for every stage, or each stage's own. The training loop
        reads it at every step, and the schedule multiplies it."""

    def take_up(self, found: dict[bytes, bytes]) -> None:
        """Take up the controls ``found`` in Redis, and remove those that cannot be used."""
        if (asked := found.pop(FIELD.encode(), None)) is not None:
            self._take_profile(asked)
        controls, refused = taken_up(found, self._config)
        for field, text, why in refused:
            log.error("a control that cannot be taken up is removed: %s", why)
            self._queue.refuse_control(field, text, why)
        bound = controls.get("max_staleness", self.asked_bound)
        if bound != self.asked_bound:
            if "auto" in (bound, self.asked_bound):
                self._record("asked_bound", str(self.asked_bound), str(bound))
            self.asked_bound = bound
            self.guard.reset()
            self.auto.begin(self._book.max_staleness)
            self._turn_bound(by="operator")
        if "paused" in controls:
            controls["paused"] = bool(controls["paused"])
        dials = (
            *((self, name) for name in AT_A_STEP),
            *((self._book, name) for name in ("pipeline_depth", "overflow", "paused")),
        )
        for holder, name in dials:
            before = getattr(holder, name)
            if (now := controls.get(name, before)) != before:
                self._record(name, before, str(now) if name == "pipeline_depth" else now)
                setattr(holder, name, now)
                self.begin_period()  # a pause, or another depth, says nothing of the bound

    def step_had(self, ess: float, *, shortfall: float, cycle: Cycle | None, standing: Standing) -> None:
        """A training step had this effective sample size, and its entropy was below its target by ``shortfall`` as a
        share: the bound may turn. ``cycle`` is None where no whole cycle was seen."""
        if self.asked_bound != "auto":
            self.guard.saw(ess, self.asked_bound)
            self._turn_bound(by="guard")
        elif cycle is not None:
            self.auto.saw(cycle, ess=ess, shortfall=shortfall, standing=standing)
            self._turn_bound(by="auto", why=self.auto.why)

    def begin_period(self) -> None:
        """Something has changed that the bound has no part in: ``auto`` measures anew."""
        self.auto.begin_period()
        if self.asked_bound == "auto":
            self._turn_bound(by="auto", why=self.auto.why)

    def _take_profile(self, asked: bytes) -> None:
        """Take a request for a profile out of Redis, and hand it to the training loop. The state says so first: who
        asked finds the request in one of the two, unless a learner has died over it."""
        field = FIELD.encode()
        try:
            request = Request.from_text(asked.decode()) if asked else None  # an empty one was withdrawn
        except (UnicodeDecodeError, ConfigError) as error:
            log.error("a request for a profile that cannot be read is removed: %s", error)
            self._queue.refuse_control(field, asked, str(error))
            return
        if request is None or request.until < self._queue.now():
            self._queue.remove_control(field, asked)
            return
        self._queue.record.set_state(**{FIELD: to_json(Answer(id=request.id, phase="taken", steps=request.steps))})
        self._queue.remove_control(field, asked)
        self.profiles.put(request)

    def texts(self) -> dict[str, str]:
        """The controls as Redis holds them, to be written again to a Redis that has lost them."""
        return {
            "max_staleness": str(self.asked_bound),
            "overflow": self._book.overflow,
            "pipeline_depth": str(self._book.pipeline_depth),
            "target_entropy": str(self.target_entropy),
            "paused": str(int(self._book.paused)),
            "learning_rate": str(self.learning_rate),
        }

    def _turn_bound(self, *, by: str, **why: str) -> None:
        bound = self.auto.bound if self.asked_bound == "auto" else self.guard.bound(self.asked_bound)
        if bound != self._book.max_staleness:
            self._record("max_staleness", self._book.max_staleness, bound, by, **why)
            self._book.max_staleness = bound

    def _record(self, name: str, previous: float | str, value: float | str, by: str = "operator", **why: str) -> None:
        """``why``: what the ledger says beside, of a turn that no person made."""
        version = self._book.version
        log.info("%s: %s -> %s, by the %s%s", name, previous, value, by, "".join(f": {text}" for text in why.values()))
        self._ledger.write("control", name=name, value=value, previous=previous, version=version, by=by, **why)
        self._on_turn(name, previous, value, version, by)
