"""What changes at a training step, within one run."""

from typing import Annotated

from pydantic import Field

from .section import Section

STAGED_TRAIN = {"groups_per_step", "minibatch_groups", "group_size", "max_response_tokens"}


class Stage(Section):
    """A change at a training step, in one run and without a restart. A key that is left out stays as it was before.
    ``[train]`` and ``[flow]`` describe the first stage."""

    from_step: int = Field(ge=1)
    """The first training step of the stage."""
    groups_per_step: int | None = Field(default=None, ge=1)
    """D_R from here on."""
    minibatch_groups: int | None = Field(default=None, ge=1)
    """D_T from here on."""
    group_size: int | None = Field(default=None, ge=2)
    """G from here on."""
    max_response_tokens: int | None = Field(default=None, ge=1)
    """T from here on."""
    temperature: float | None = Field(default=None, gt=0)
    """τ from here on."""
    shares: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    """Shares of the sources of ``[[data]]`` from here on, by name. Sources that are not named keep theirs."""
    online_filter: bool = False
    """Drop, from here on, the prompts that the policy solved every time it saw them in the stage before (report
    3.1, online filtering)."""
