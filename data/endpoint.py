"""Asks a model behind an OpenAI-compatible endpoint (``vllm serve`` is one): many requests at once, with retries.

A bad answer costs its own request and no more. An endpoint that has stopped answering is left alone, so that a million
requests are not tried at a server that is gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..common.errors import DataError
from ..common.wording import counted

if TYPE_CHECKING:
    from openai import AsyncOpenAI

GIVE_UP = 20
"""After so many requests in a row have failed, each after all its tries, the endpoint is not asked any more."""
ITS_OWN_FAULT = (400, 413, 422)
"""HTTP statuses with which an endpoint refuses one request for good: it is too long, or cannot be used."""
SAY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a model is, and how to ask it."""

    name: str
    url: str
    """The address up to and with /v1."""
    model: str
    key_variable: str
    """Environment variable that holds the key. Empty: no key is sent."""
    concurrency: int
    """Most requests under way at once."""
    timeout_s: float
    """Seconds to wait for one answer."""
    tries: int
    """How often a request is tried in all if the connection breaks, or the status is 408, 409, 429 or 5xx."""

    @property
    def shown(self) -> str:
        """Name and address, without a password that may stand in it."""
        parts = urlsplit(self.url)
        return f"{self.name} at {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to a model."""

    row: int
    index: int
    messages: list[dict[str, str]]
    seed: int
    beside: dict[str, Any] = field(default_factory=dict)
    """What is kept with the answer and not sent."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one request."""

    text: str
    tokens: int
    finished: bool
    """Whether the model ended its answer. False: the limit on its length did."""


class RequestError(Exception):
    """Why a request has no answer. ``for_good``: asking again would not help."""

    def __init__(self, kind: str, detail: str = "", *, for_good: bool = False) -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind, self.detail, self.for_good = kind, " ".join(detail.split())[:120], for_good


@dataclass(slots=True)
class Tally:
    """How the requests to one endpoint went."""

    endpoint: Endpoint
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by kind. They may be asked again."""
    said: dict[str, str] = field(default_factory=dict)
    """The first message of each kind of failure."""
    refused: list[tuple[Ask, RequestError]] = field(default_factory=list)
    """Requests that the endpoint will never take."""
    in_a_row: int = 0
    """Requests that failed since the last answer."""

    @property
    def given_up(self) -> bool:
        """Whether the endpoint is not asked any more."""
        return self.in_a_row >= GIVE_UP

    @property
    def complaint(self) -> str:
        """What failed, in one line; empty if nothing did."""
        if not self.failed:
            return ""
        reasons = ", ".join(
            f"{number:,} {kind}{f' ({self.said[kind]})' if self.said[kind] else ''}"
            for kind, number in sorted(self.failed.items())
        )
        end = f"; not asked any more behind {GIVE_UP} in a row" if self.given_up else ""
        return f"{self.endpoint.shown}: {counted(self.failed.total(), 'request')} without an answer: {reasons}{end}"

    def fail(self, kind: str, detail: str) -> None:
        """Count a request without an answer."""
        self.failed[kind] += 1
        self.said.setdefault(kind, detail)


def sampling_seed(*parts: int | str) -> int:
    """A seed of 31 bits from ``parts``, which name the request: every request has another."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big") >> 1


def ask_all(
    jobs: Sequence[tuple[Endpoint, Iterator[Ask], Callable[[Ask, Answer], None]]], sampling: dict[str, Any]
) -> list[Tally]:
    """Send every endpoint its requests, all endpoints side by side. ``keep`` gets each answer as it comes.

    A refusal for good stands in the tally only if the endpoint takes other requests: one that refuses everything is set
    up wrongly and may be asked again later. Raises ``DataError`` if the openai package is not installed.
    """
    try:
        import openai  # noqa: F401
    except ImportError as error:
        raise DataError("an endpoint needs the openai package: pip install 'leeway-rl[data]'") from error

    async def all_of_them() -> list[Tally]:
        return await asyncio.gather(*(_ask(endpoint, asks, keep, sampling) for endpoint, asks, keep in jobs))

    return asyncio.run(all_of_them())


async def _ask(
    endpoint: Endpoint, asks: Iterator[Ask], keep: Callable[[Ask, Answer], None], sampling: dict[str, Any]
) -> Tally:
    from openai import AsyncOpenAI

    tally, said = Tally(endpoint), time.monotonic()

    async def asking(client: AsyncOpenAI) -> None:
        nonlocal said
        for ask in asks:  # the tasks share the iterator, so each request is taken once
            try:
                answer = await _one(client, endpoint.model, ask, sampling)
            except RequestError as error:
                tally.in_a_row += 1
                if error.for_good:
                    tally.refused.append((ask, error))
                else:
                    tally.fail(error.kind, error.detail)
            else:
                tally.in_a_row = 0
                tally.answered += 1
                keep(ask, answer)
            if time.monotonic() - said > SAY_S:
                said = time.monotonic()
                print(f"{endpoint.shown}: {counted(tally.answered, 'answer')}", file=sys.stderr, flush=True)
            if tally.given_up:
                return

    async with AsyncOpenAI(
        base_url=endpoint.url,
        api_key=os.environ.get(endpoint.key_variable) or "none",
        timeout=endpoint.timeout_s,
        max_retries=endpoint.tries - 1,
    ) as client:
        await asyncio.gather(*(asking(client) for _ in range(endpoint.concurrency)))
    if tally.given_up or not tally.answered:
        for _, error in tally.refused:
            tally.fail(error.kind, error.detail)
        tally.refused.clear()
    return tally


async def _one(client: AsyncOpenAI, model: str, ask: Ask, sampling: dict[str, Any]) -> Answer:
    """One answer, or a ``RequestError``."""
    import openai

    try:
        reply = await client.chat.completions.create(
            model=model,
            messages=ask.messages,  # type: ignore[arg-type]
            seed=ask.seed,
            **sampling,
        )
        choice = reply.choices[0]
        message, finish = choice.message, choice.finish_reason
        text = message.content or ""
        thought = getattr(message, "reasoning", None) or getattr(message, "reasoning_content", None)
    except openai.APIStatusError as error:
        for_good = error.status_code in ITS_OWN_FAULT
        raise RequestError(f"HTTP {error.status_code}", error.message, for_good=for_good) from error
    except openai.APITimeoutError as error:
        raise RequestError("timed out") from error
    except openai.APIConnectionError as error:
        raise RequestError("no connection", str(error.__cause__ or error)) from error
    except (openai.OpenAIError, ValueError, LookupError, TypeError, AttributeError) as error:
        # The library does not check what it gets; so this is what another server's answer looks like.
        raise RequestError("what came back is no chat completion") from error
    if not isinstance(text, str) or finish is None:
        raise RequestError("what came back is no chat completion")
    if thought:  # this server returns the reasoning apart from the answer
        text = f"<think>\n{thought}\n</think>\n{text}" if text or finish == "stop" else f"<think>\n{thought}"
    text = text.encode("utf-8", "backslashreplace").decode()  # JSON can spell halves of characters
    return Answer(text, reply.usage.completion_tokens if reply.usage else 0, finish == "stop")
