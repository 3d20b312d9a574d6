"""Responses of a model, graded: to a file of problems, or as a benchmark's score."""
