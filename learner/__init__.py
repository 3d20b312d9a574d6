"""Learner role: issues tickets, collects scored groups, trains, publishes versions, checkpoints."""
