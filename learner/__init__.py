"""The learner role: it issues tickets, takes in scored groups, trains, publishes versions, and writes checkpoints."""
