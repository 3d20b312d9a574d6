"""The options of ``leeway sample`` and ``leeway eval`` on how a model is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ...common import address
from .options import RedisUrl, Settings

if TYPE_CHECKING:
    from ..evaluating.sampling import Asking


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """How a model is sampled, and by whom."""

    temperature: Annotated[float, typer.Option("--temperature", help="Sampling temperature τ.")] = 1.0
    top_p: Annotated[
        float, typer.Option("--top-p", help="Sample from the likeliest tokens of this share.", min=1e-6, max=1)
    ] = 1.0
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longest response.", min=1)] = 32768
    max_prompt_tokens: Annotated[
        int, typer.Option("--max-prompt-tokens", help="Longer prompts are named and left out.", min=1)
    ] = 2048
    seed: Annotated[int, typer.Option("--seed", help="With a problem's row it decides its responses.", min=0)] = 0
    workers: Annotated[int, typer.Option("--workers", help="Rollout workers here; 0: only those you start.", min=0)] = 1
    redis_url: RedisUrl = None
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the queue: leeway rollout and verifier join it by --run.")
    ] = None
    settings: Settings = None
    anew: Annotated[bool, typer.Option("--anew", help="Delete what --out has, and begin.")] = False

    def asking(self, engine: str | None, **instead: object) -> Asking:
        """The same as ``evaluating.sampling`` takes it; ``instead`` replaces fields."""
        from ..evaluating.sampling import Asking

        said = vars(self) | {
            "redis_url": address.resolve(self.redis_url) if self.redis_url else None,
            "settings": tuple(self.settings or ()),
        }
        return Asking(engine=engine, **(said | instead))
