"""Sampling and judging a model: the queue and the workers of training, with a collector in the learner's place."""
