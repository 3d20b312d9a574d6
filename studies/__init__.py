"""The report's ablations at toy scale, and what it could not run: staleness."""
