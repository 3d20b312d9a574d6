"""Under which heading a metric stands in a tracker. Trackers sort their charts by what stands before the first slash of
a name, so a metric is sent as ``HEADING/NAME``; the headings are numbered in the order of the report's pictures. Pure.
"""

ORDER = {
    "1 answers": ("reward", "source", "solved", "verdict", "generated"),
    "2 entropy": ("entropy",),
    "3 groups": ("batch", "response", "refunds"),
    "4 update": ("loss", "grad_norm", "grad_norm_max", "policy", "objective", "learning_rate", "grad_cosine"),
    "5 staleness": ("staleness", "tokens", "overflow"),
    "6 distance": ("logprob", "kl"),
    "7 machines": ("throughput", "mfu", "memory", "time", "weights", "checkpoint", "flow"),
}
"""By heading, how its metrics begin."""
OTHERS = "8 others"
AXES = "progress"
"""Metrics that begin so keep their names, because they are chosen as the axis of the others."""
_HEADING = {first: heading for heading, names in ORDER.items() for first in names}


def charted(name: str) -> str:
    """The name of the metric ``name`` in a tracker."""
    first = name.partition("/")[0]
    return name if first == AXES else f"{_HEADING.get(first, OTHERS)}/{name}"
