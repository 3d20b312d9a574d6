"""What a picture of the report is: one of several on its figure."""

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.axes import Axes

from .rundata import RunData


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of the figure."""

    title: str
    reading: str
    """How to read it, in one sentence."""
    needs: tuple[str, ...]
    """Metrics without which the panel stays empty."""
    draw: Callable[[Axes, RunData], None]
    of: str = ""
    """A run without metrics that begin so has no such picture."""
