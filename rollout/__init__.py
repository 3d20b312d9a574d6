"""The rollout role: it takes tickets, generates the G responses of each group, and hands them over to the verifiers."""
