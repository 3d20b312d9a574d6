"""Early warnings of a training that is about to become unstable, from the metrics of its last steps. Pure."""

from collections import deque
from collections.abc import Mapping

from ..common.config import Metrics

STEPS = 10
"""Training steps whose mean is looked at. A single step says little: both numbers scatter."""


class EarlyWarning:
    """Remembers the last training steps, and says what is wrong with them."""

    def __init__(self, settings: Metrics) -> None:
        self._ess, self._cosine = settings.warn_ess, settings.warn_cosine
        self._seen: dict[str, deque[float]] = {}

    def saw(self, metrics: Mapping[str, float]) -> str:
        """Take in a training step's metrics. Returns the warning in words, or an empty text."""
        warnings = []
        ess, cosine = self._mean("logprob/ess", metrics), self._mean("grad_cosine", metrics)
        if ess is not None and ess < self._ess:
            warnings.append(
                f"the data are too far off-policy: over the last {STEPS} training steps their effective sample size "
                f"(logprob/ess) is {ess:.2f} of their number, below metrics.warn_ess = {self._ess:g}; a lower "
                "max-staleness brings it up"
            )
        if cosine is not None and cosine > self._cosine:
            warnings.append(
                f"successive gradients are aligned: over the last {STEPS} training steps the mean of their cosine "
                f"(grad_cosine) is {cosine:.2f}, above metrics.warn_cosine = {self._cosine:g}; a lower max-staleness "
                "or learning-rate keeps the updates from overshooting"
            )
        return "; and ".join(warnings)

    def _mean(self, name: str, metrics: Mapping[str, float]) -> float | None:
        """The mean of ``name`` over the last steps; None where there are too few yet."""
        seen = self._seen.setdefault(name, deque(maxlen=STEPS))
        if name in metrics:
            seen.append(metrics[name])
        return sum(seen) / STEPS if len(seen) == STEPS else None
