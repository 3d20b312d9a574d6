"""Runs a whole run on this machine: its server, its roles as processes, and the checks before any of them starts."""
