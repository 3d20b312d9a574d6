"""Bounds that commands and roles share."""

MOST_RESPONSES = 65_536
"""Most responses to one problem: they are generated and graded as one group. Also most groups of a worker at a time."""
MOST_COUNTED = 2**31 - 1
"""Most versions of staleness, and most live groups: more than any run has, and the most that a message can hold."""
LONGEST_S = 10**6
"""Longest wait that a key may ask for, in seconds: eleven days. The system's clocks refuse far longer ones."""
LONGEST_CALL_S = 86_400
"""Longest that one call of a user's code, or grading one response, may take, in seconds: a day."""
MOST_BYTES = 1 << 62
"""Most memory that a process may be given: the system counts no more."""
MOST_PROCESSES = 65_536
"""Most processes of a kind, and most GPUs of a node: a layout names each."""
MOST_THREADS = 4096
"""Most CPU threads of one process."""
LEAST_TEMPERATURE = 0.01
"""Lowest sampling temperature: vLLM takes it for a lower one, so what it sampled would be another distribution than the
learner computes."""
COLLECTIVE_TIMEOUT_S = 600.0
"""How long the learner's ranks wait for one another in an exchange of tensors, unless the configuration says
otherwise: NCCL's own ten minutes."""

MOST_TRACED = 20
"""Training steps that one profile may cover: what is traced lies in rank 0's memory until it is written."""
