"""Reward functions of a user's, good and bad."""

import asyncio
import os
import sys
import time

from leeway_rl.common.rewards import Score, prepared, scores_truncated, whole_group


def length_of(response, row):
    return len(response) / 10


def matches(response, row):
    return response == row["answer"]


def told(response, row, finished, length, correct):
    return Score(float(finished) + 10 * length + 1000 * correct, "as told")


def with_options(response, row, bonus, malus=0.0):
    return bonus - malus


def spoils_the_row(response, row):
    row["answer"] = "spoiled"
    return 1.0


@whole_group
def ranked(response, row):
    order = sorted(response, key=len)
    return [order.index(each) for each in response]


@whole_group
def too_few(response, row):
    return [1.0]


@prepared
def ready(start):
    calls = []

    def function(response, row):
        calls.append(response)
        return start + len(calls)

    return function


@scores_truncated
def of_truncated(response, row, finished):
    return 0.5 if finished else -1.0


async def never(response, row):
    await asyncio.sleep(3600)


async def blocks(response, row):
    time.sleep(3600)


def raises(response, row):
    raise KeyError("the row has no such column")


def leaves(response, row):
    sys.exit(3)


def interrupts(response, row):
    raise KeyboardInterrupt


async def leaves_later(response, row):
    sys.exit(3)


async def was_cancelled(response, row):
    raise asyncio.CancelledError


async def gives_up_itself(response, row):
    raise TimeoutError("the endpoint's own clock")


class _Dumb(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def cannot_say(response, row):
    raise _Dumb


def ends_at_once(response, row):
    os._exit(7)


def hangs(response, row):
    while True:
        pass


def hoards(response, row):
    return float(len(bytearray(1 << 40)))


def prints(response, row):
    print("printed by a reward")
    return 1.0


def forks(response, row):
    if os.fork() == 0:
        time.sleep(3600)
    return 1.0


def fork_returns(response, row):
    os.fork()
    return 1.0


def dies(response, row):
    os.kill(os.getpid(), 9)


def is_nan(response, row):
    return float("nan")


def is_text(response, row):
    return "1.0"


def is_none(response, row):
    return None


def fails_once(response, row, marker):
    if not os.path.exists(marker):
        open(marker, "w").close()
        raise ConnectionError("the endpoint is away")
    return 1.0


def quotes(response, row, key):
    raise RuntimeError(f"401: the key {key} is not known")


def says_its_key(response, row, key):
    return Score(1.0, f"asked with {key}")


class Made:
    def __init__(self, response, row):
        pass


def yields(response, row):
    yield 1.0


def reward(response, row):
    return 0.25


def asks_for_another(response):
    return 1.0


def of_trl(prompts, completions, answer, **kwargs):
    return [float(right in said) for said, right in zip(completions, answer, strict=True)]


def of_verl(data_source, solution_str, ground_truth, extra_info=None):
    return float(ground_truth in solution_str)


@whole_group
def around_trl(responses, row):
    columns = {name: [value] * len(responses) for name, value in row.items()}
    return of_trl(prompts=columns.pop("prompt"), completions=responses, **columns)


def takes_anything(response, row, **anything):
    return float(len(anything))


def exact_length(response, row, length):
    return float(length)


def said(response, row, turns):
    found = len(turns) + 100 * sum(turn["by"] == "environment" for turn in turns)
    last = turns.pop()  # what it does to the list must not reach another
    return Score(found, last["text"])


@whole_group
def said_by_all(response, row, turns):
    return [float(len(each)) for each in turns]


ASKED = []


async def meets(response, row):
    """Answers when twenty of them have been asked."""
    ASKED.append(response)
    while len(ASKED) < 20:
        await asyncio.sleep(0.01)
    return 1.0
