"""A run of this machine: its server, its roles as processes, and what is checked before any of them starts."""
