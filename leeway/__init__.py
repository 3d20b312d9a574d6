"""The operator's desk. A room holds what one wish needs: running, looking, reporting, planning, sweeping, evaluating,
proving, and chaos, which rehearses faults. ``commands`` and ``cli`` are the command line over all of them."""
