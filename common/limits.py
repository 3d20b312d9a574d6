"""Bounds that commands and roles share."""

MOST_RESPONSES = 65_536
"""Most responses to one problem: they are generated and graded as one group."""
MOST_COUNTED = 2**31 - 1
"""Most versions of staleness, and most live groups: more than any run has, and the most that a message can hold."""
COLLECTIVE_TIMEOUT_S = 600.0
"""How long the learner's ranks wait for one another in an exchange of tensors, unless the configuration says
otherwise: NCCL's own ten minutes."""

MOST_TRACED = 20
"""Training steps that one profile may cover: what is traced lies in rank 0's memory until it is written."""
