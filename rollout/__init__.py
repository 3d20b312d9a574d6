"""Rollout role: takes tickets, generates the G responses of each group, hands them to the verifiers."""
