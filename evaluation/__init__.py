"""Samples and judges a model with the queue and the workers of training, and a collector in the learner's place."""
