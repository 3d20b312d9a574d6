"""A run's pictures and pages, made from its folder alone."""
