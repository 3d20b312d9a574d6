"""Scores an answer by the package reasoning_gym, in a fork of a process that has imported it. It never returns.

The answer may be evaluated on the way. Whatever it does, it does in this process, which is about to end.
"""

import os
import socket
from collections.abc import Callable
from typing import Any, NoReturn

from . import frames


def score(link: socket.socket, entry: dict[str, Any], options: dict[str, Any]) -> NoReturn:
    """Send ``["ready", ""]``, or ``["broken", why]`` where the entry has no scorer; then take an answer, and send
    ``["scored", number]``, or ``["raised", why]`` where this answer breaks the scorer.

    Two steps, because from the second on it may be the answer that speaks.
    """
    try:
        scorer, entry = _scorer(entry, options)
    except BaseException as error:
        _say(link, "broken", f"{type(error).__name__}: {error}")
        os._exit(0)
    _say(link, "ready", "")
    frame = frames.receive(link)
    if frame is not None:
        try:
            value = float(scorer(frame[1], entry))
        except BaseException as error:
            _say(link, "raised", f"{type(error).__name__}: {error}")
        else:
            _say(link, "scored", value)
    os._exit(0)


def _say(link: socket.socket, word: str, value: float | str) -> None:
    frames.send(link, frames.VERDICT, [word, value if isinstance(value, float) else value[:200]])


Scorer = Callable[[Any, dict[str, Any]], float]


def _scorer(entry: dict[str, Any], options: dict[str, Any]) -> tuple[Scorer, dict[str, Any]]:
    """The scorer of the entry's generator, and the entry in the form that it reads.

    JSON has no tuples, but two generators compare with tuples. So the form is chosen in which the entry's own answer
    scores 1. Raises if the scorer fails on that answer.
    """
    import reasoning_gym

    name = entry["metadata"]["source_dataset"]
    scorer = reasoning_gym.create_dataset(name, seed=0, size=1, **options).score_answer
    own = entry["answer"]
    if own is None or scorer(own, entry) >= 1:
        return scorer, entry
    frozen = {**entry, "metadata": {key: _with_tuples(value) for key, value in entry["metadata"].items()}}
    return scorer, frozen if scorer(own, frozen) >= 1 else entry


def _with_tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_with_tuples, value))
    return {key: _with_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value
