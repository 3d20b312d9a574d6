"""``leeway chaos``: faults on purpose, by a seeded timetable, to rehearse what a run survives."""
