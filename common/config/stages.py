"""What changes at a training step, within one run."""

from typing import Annotated, Any

from pydantic import Field

from ..limits import LEAST_TEMPERATURE, MOST_COUNTED, MOST_RESPONSES
from .objective import Control, KlGroups, Mask
from .section import Section

_TRAIN = ("groups_per_step", "minibatch_groups", "group_size", "max_response_tokens", "learning_rate")
_OBJECTIVE = ("clip_low", "clip_high", "dual_clip", "advantage_mask", "kl_beta", "kl_groups", "reference")
STAGED: dict[str, dict[str, str]] = {
    "train": {key: key for key in _TRAIN},
    "flow": {"temperature": "temperature"},
    "objective": {key: key for key in _OBJECTIVE},
    "entropy": {f"entropy_{key}": key for key in ("control", "alpha", "target")},
}
"""What a stage may change, by section: the stage's key, and the section's own."""


class Stage(Section):
    """A change at a training step, in one run and without a restart. A key that is left out stays as it was before.
    The other sections describe the first stage."""

    from_step: int = Field(ge=1)
    """The first training step of the stage."""
    groups_per_step: int | None = Field(default=None, ge=1, le=MOST_COUNTED)
    """D_R from here on."""
    minibatch_groups: int | None = Field(default=None, ge=1)
    """D_T from here on."""
    group_size: int | None = Field(default=None, ge=2, le=MOST_RESPONSES)
    """G from here on."""
    max_response_tokens: int | None = Field(default=None, ge=1)
    """T from here on."""
    temperature: float | None = Field(default=None, ge=LEAST_TEMPERATURE)
    """τ from here on."""
    learning_rate: float | None = Field(default=None, gt=0)
    """``train.learning_rate`` from here on."""
    clip_low: float | None = Field(default=None, ge=0, le=1)
    """ε_low from here on."""
    clip_high: float | None = Field(default=None, ge=0)
    """ε_high from here on."""
    dual_clip: float | None = Field(default=None, gt=1)
    """c of the dual clip from here on."""
    advantage_mask: Mask | None = None
    """``objective.advantage_mask`` from here on."""
    kl_beta: float | None = Field(default=None, ge=0)
    """β of the KL term from here on. If it is above 0 in any stage, the reference is loaded when the learner starts."""
    kl_groups: KlGroups | None = None
    """``objective.kl_groups`` from here on."""
    reference: str | None = None
    """``objective.reference`` from here on."""
    entropy_control: Control | None = None
    """``entropy.control`` from here on. The controller keeps its coefficient while it is not in use."""
    entropy_alpha: float | None = Field(default=None, ge=0)
    """``entropy.alpha`` from here on. A stage that leaves ``constant`` sets it to 0."""
    entropy_target: float | None = Field(default=None, ge=0)
    """``entropy.target`` from here on, unless an operator has turned the target by hand."""
    shares: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Shares of the sources of ``[[data]]`` from here on, by name. Sources that are not named keep theirs."""
    online_filter: bool = False
    """Drop, from here on, the prompts that the policy solved every time it saw them in the stage before (report
    3.1, online filtering)."""

    def changes(self) -> dict[str, dict[str, Any]]:
        """The values that the stage gives, by section and by the section's own key."""
        given = self.model_dump(exclude_none=True)
        return {
            section: {own: given[key] for key, own in keys.items() if key in given} for section, keys in STAGED.items()
        }
