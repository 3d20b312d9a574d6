"""Bounds that commands and roles share."""

MOST_RESPONSES = 65_536
"""To one problem: they are generated and graded as one group."""
MOST_COUNTED = 2**31 - 1
"""Versions of staleness, and groups that are live: more than any run counts, and what a message can hold."""
