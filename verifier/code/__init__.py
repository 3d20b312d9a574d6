"""Grades code: takes the solution out of a response, reads the tests, runs them, and compares what came out."""
