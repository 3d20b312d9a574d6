"""Grading code: what a response solves, what its tests ask, and whether what came out is what was due."""
