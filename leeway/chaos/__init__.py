"""``leeway chaos``: faults on purpose, by a seeded schedule, to rehearse what a run survives."""
