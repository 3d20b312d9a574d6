"""Samples and grades responses of a model: to a file of problems, or for its scores on benchmarks."""
