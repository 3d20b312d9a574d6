"""The operator's desk. Each room does one kind of work: running, looking, reporting, planning, sweeping, evaluating,
proving, and chaos, which rehearses faults. ``commands`` and ``cli`` are the command line over all of them."""
