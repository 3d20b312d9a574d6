"""Bounds that commands and roles share."""

MOST_RESPONSES = 65_536
"""To one problem: they are generated and graded as one group."""
