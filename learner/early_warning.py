"""Early warnings of a training that goes wrong, or is about to, from the metrics of its last steps. Pure."""

import math
from collections import deque
from collections.abc import Mapping

from ..common.config import Metrics

STEPS = 10
"""Training steps whose mean is looked at. A single step says little: both numbers scatter."""


class EarlyWarning:
    """Remembers the last training steps, and says what is wrong with them."""

    def __init__(self, settings: Metrics) -> None:
        self._ess, self._cosine = settings.warn_ess, settings.warn_cosine
        self._mismatch = settings.warn_mismatch or math.inf
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
        apart = self._mean("logprob/abs_diff_mean/staleness_0", metrics)
        if apart is not None and apart > self._mismatch:
            warnings.append(
                f"sampler and learner compute different things: over the last {STEPS} training steps with fresh tokens "
                f"their log-probabilities (logprob/abs_diff_mean/staleness_0) differ by {apart:.2f} nats in the mean, "
                f"above metrics.warn_mismatch = {self._mismatch:g}; the page on models says which were compared"
            )
        return "; and ".join(warnings)

    def _mean(self, name: str, metrics: Mapping[str, float]) -> float | None:
        """The mean of ``name`` over the last steps; None where there are too few yet."""
        seen = self._seen.setdefault(name, deque(maxlen=STEPS))
        if name in metrics:
            seen.append(metrics[name])
        return sum(seen) / STEPS if len(seen) == STEPS else None
