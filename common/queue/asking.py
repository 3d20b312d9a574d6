"""Asks several nodes for one answer, in about the time that one of them may take."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

HEAD_START_S = 0.25
"""How long a node has to answer before the next one is asked as well."""

N = TypeVar("N")
A = TypeVar("A")


class Refusal(Exception):
    """A node has no answer to give. Another one may."""


class Silence(Refusal):
    """A node did not answer in time."""


class NoAnswer(Exception, Generic[N]):
    """No node has given an answer; what became of each."""

    def __init__(self, refusals: dict[N, Refusal]) -> None:
        super().__init__(refusals)
        self.refusals = refusals


def first_answer(nodes: Iterable[N], ask: Callable[[N], A]) -> tuple[N, A]:
    """The first answer of ``nodes``, and who gave it. They are asked one after the other, each as soon as the one
    before has refused or been silent for ``HEAD_START_S``; ``ask`` sets the time that one node has. ``NoAnswer`` where
    each raised a ``Refusal``. Any other error that ``ask`` raises is raised at once."""
    waiting, refusals, asked = deque(nodes), dict[N, Refusal](), 0
    answers = queue.SimpleQueue[tuple[N, A | None, BaseException | None]]()

    def put_answer(node: N) -> None:
        try:
            answers.put((node, ask(node), None))
        except BaseException as error:  # it is raised where the answer is waited for
            answers.put((node, None, error))

    while waiting or asked > len(refusals):
        if waiting:
            # A thread that is still waiting when another node has answered ends by itself, and holds up nobody's end.
            threading.Thread(target=put_answer, args=(waiting.popleft(),), name="asking", daemon=True).start()
            asked += 1
        try:
            node, answer, error = answers.get(timeout=HEAD_START_S if waiting else None)
        except queue.Empty:
            continue
        if isinstance(error, Refusal):
            refusals[node] = error
        elif error is not None:
            raise error
        else:
            assert answer is not None
            return node, answer
    raise NoAnswer(refusals)
