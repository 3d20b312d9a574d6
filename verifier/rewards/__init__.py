"""Rewards of a run's own: functions of the user's, and those that ship, alone or together."""
