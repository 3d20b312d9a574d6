"""The environments of one rollout worker: a warm process for each group that is generated at a time.

One thread runs an event loop, and everything here happens on it but what callers call. So ``step`` returns at once from
any thread, also from one that runs an event loop itself. A failure costs the group its process: what an environment has
left behind when it raised, hung or ate memory is gone with it, and the next group finds a new one.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ...common.config import Config, expand
from ...common.errors import ConfigError, EnvironmentFailed
from ...common.preflight.tokens import load_tokenizer
from ...common.types import Ticket
from ...common.user_code.digests import ENVIRONMENT, refuse_other_code
from ...common.user_code.processes import Lost
from .calling import method_of
from .conversation import ends_of_model, glue_of
from .process import Described, EnvironmentProcess
from .turn import Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

Result = TypeVar("Result")
ENDING_S = 5.0
"""Seconds that a process may take to forget a group."""


class EnvironmentHost:
    """The processes of a rollout worker that run environments. It may be used from any thread. Close it in the end."""

    def __init__(self, config: Config, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        """Start one process and wait until it has loaded the environment, then the others: as many as the engine
        generates groups side by side. ``tokenizer``: that of ``model.path`` by default. ``ConfigError`` if the
        environment cannot be loaded, if its code is not the run's, or if the chat template rewrites earlier turns."""
        assert config.environment is not None
        self.settings = config.environment
        path = expand(config.model.path)
        tokenizer = tokenizer or load_tokenizer(path)
        self.glue = glue_of(tokenizer, self.settings.role, ends_of_model(path, tokenizer))
        self._digest = self.settings.digest
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="environments", daemon=True)
        self._thread.start()
        self._processes: list[EnvironmentProcess] = []
        try:
            self.described = self._on_loop(self._first()).result()
        except BaseException:
            self.close()
            raise
        self._on_loop(self._more(config.rollout.at_once - 1)).result()

    def open(self, ticket: Ticket) -> Conversations:
        """Reset G environments for a group: response j's has the seed ``ticket.seed + j``. Blocks until a process is
        free and all are reset. Raises ``EnvironmentFailed``, and ``ConfigError`` where this worker cannot run the
        environment any more: its code has changed, for one."""
        return self._on_loop(self._opened(ticket)).result()

    def pids(self) -> list[int]:
        """Process ids of the processes that are alive now."""
        return [pid for process in self._processes if (pid := process.pid) is not None]

    def close(self) -> None:
        """Kill the processes and wait until they are gone. What is under way ends as cancelled. Safe to call twice."""
        if self._loop.is_closed():
            return
        self._on_loop(self._closed()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        """Run ``work`` on the loop. Once the host is closed it ends as cancelled. Only ``Conversations`` calls this."""
        if not self._loop.is_closed():
            return self._on_loop(work)
        work.close()
        cancelled = Future[Result]()
        cancelled.cancel()
        return cancelled

    def free(self, process: EnvironmentProcess) -> None:
        """Take back a process, on the loop. Where it is gone, another starts for the next group."""
        self._free.put_nowait(process)
        self._warming.add(task := asyncio.create_task(self._warm(process)))
        task.add_done_callback(self._warming.discard)

    def _on_loop(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _first(self) -> Described:
        self._free = asyncio.Queue[EnvironmentProcess]()
        self._warming = set[asyncio.Task[None]]()
        process = EnvironmentProcess(self.settings, self._refuse)
        self._processes.append(process)
        try:
            described = await process.started()
        except (Lost, TimeoutError, OSError) as error:
            raise ConfigError(f"environment: the process that runs it did not start: {_said(error)}") from error
        assert described is not None
        self.free(process)
        return described

    async def _more(self, number: int) -> None:
        for _ in range(number):
            self._processes.append(process := EnvironmentProcess(self.settings, self._refuse))
            self.free(process)

    def _refuse(self, found: Described) -> None:
        if self._digest is None:
            self._digest = found.digest or "any"  # the first process is there before the others start
        refuse_other_code(found.digest, self._digest, ENVIRONMENT)

    async def _warm(self, process: EnvironmentProcess) -> None:
        with suppress(Lost, TimeoutError, OSError, ConfigError):  # the group that takes it finds out, and says so
            await process.started()

    async def _opened(self, ticket: Ticket) -> Conversations:
        process = await self._free.get()
        try:
            await process.started()
        except ConfigError:
            self._free.put_nowait(process)
            raise
        except (Lost, TimeoutError, OSError) as error:
            self._free.put_nowait(process)
            raise EnvironmentFailed(
                f"environment {self.settings.use}: its process did not start: {_said(error)}"
            ) from error
        conversations = Conversations(self, process, ticket)
        await conversations.reset()
        return conversations

    async def _closed(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.gather(*(process.close() for process in self._processes))


class Conversations:
    """One group's conversations with its environments, one for each response. A context manager: its end stops what is
    under way and frees the process. It may be used from any thread."""

    def __init__(self, host: EnvironmentHost, process: EnvironmentProcess, ticket: Ticket) -> None:
        """``EnvironmentHost.open`` makes it."""
        self._host, self._process, self._ticket = host, process, ticket
        self._settings, self._glue = host.settings, host.glue
        self._in_turn = None if host.described.at_once else asyncio.Lock()
        self._turns = [0] * ticket.group_size
        self._rewards_S = np.zeros(ticket.group_size)
        self._under_way = set[asyncio.Task[Any]]()
        self._why: str | None = None
        self._closed = False

    @property
    def rewards_S(self) -> np.ndarray:
        """What the turns so far are worth, summed up for each response. float64, shape [G]."""
        return self._rewards_S.copy()

    def step(self, response: int, tokens: Sequence[int] | np.ndarray) -> Future[Turn]:
        """Give a response's turn to its environment: the turn's sampled tokens, end token included. Returns at once.
        The future raises ``EnvironmentFailed`` where there is no answer; the group is then to be generated again."""
        return self._host.run(self._stepped(response, [int(token) for token in tokens]))

    def close(self) -> None:
        """Stop what is under way: its futures end as cancelled. Returns at once. Safe to call twice."""
        self._host.run(self._ended())

    def __enter__(self) -> Conversations:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def reset(self) -> None:
        """Make and reset the environments, on the loop."""
        self._process.begin(self._ticket.row, self._ticket.seed)
        every = [self._asked(f"reset for response {j}", {"i": j}) for j in range(self._ticket.group_size)]
        try:
            for found in await asyncio.gather(*every, return_exceptions=True):
                if isinstance(found, BaseException):
                    raise found
        except BaseException:
            await self._ended()
            raise

    async def _stepped(self, response: int, tokens: list[int]) -> Turn:
        self._turns[response] += 1
        turn, text = self._turns[response], self._glue.text_of(tokens)
        what = f"turn {turn} of response {response}"
        said = await self._asked(what, {"i": response, "response": text})
        if not math.isfinite(total := float(self._rewards_S[response]) + said["reward"]):
            raise await self._failed(what, f"the rewards of its turns add up to {total}")
        self._rewards_S[response] = total
        if said["done"]:
            return Turn(None, finished=True)
        if turn >= self._settings.max_turns:
            return Turn(None, finished=False)
        if not (observation := self._glue.tokens_of(said["observation"])):
            raise await self._failed(
                what,
                f"its observation {said['observation']!r} has no tokens, and the chat template writes none around it: "
                "two turns could not be told apart",
            )
        return Turn(observation)

    async def _asked(self, what: str, request: dict[str, Any]) -> dict[str, Any]:
        """The environment's reply. ``what`` says in words what it is asked."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            async with self._in_turn or nullcontext():
                if self._closed:
                    raise asyncio.CancelledError
                if self._why is not None:
                    raise EnvironmentFailed(self._why)
                return await self._tried(what, request)
        finally:
            self._under_way.discard(task)

    async def _tried(self, what: str, request: dict[str, Any]) -> dict[str, Any]:
        clock_s = self._settings.turn_s
        try:
            said = await self._process.ask(request, clock_s)
            if "why" not in said:
                return said
            why = said["why"]
        except TimeoutError:
            place = self._host.described.places[method_of(request)]
            why = f"killed after {clock_s:g} s (turn_s) without an answer{place}"
        except Lost:
            if self._why is not None:  # another response's call has failed, and cost the group its process
                raise EnvironmentFailed(self._why) from None
            why = "its process was lost"
            self._why = f"environment {self._settings.use}: {what}: {why}"
            self._why += f": {await self._process.how_it_ended()}"
            raise EnvironmentFailed(self._why) from None
        raise await self._failed(what, why)

    async def _failed(self, what: str, why: str) -> EnvironmentFailed:
        """What the first failure of the group is told as. It costs the group its process."""
        if self._why is None:
            self._why = f"environment {self._settings.use}: {what}: {why}"
            await self._process.discard()
        return EnvironmentFailed(self._why)

    async def _ended(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._under_way or self._why is not None:
            for task in self._under_way - {asyncio.current_task()}:
                task.cancel()
            await self._process.discard()
        else:
            await self._process.end(ENDING_S)
        self._host.free(self._process)


def _said(error: BaseException) -> str:
    return "it was lost" if isinstance(error, Lost) else f"{type(error).__name__}: {error}"
