"""All studies, in the order in which they run; those about entropy and staleness come first."""

from .ablations import ABLATIONS
from .asynchrony import ASYNCHRONY
from .study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (*ASYNCHRONY, *ABLATIONS)}
"""By name."""
