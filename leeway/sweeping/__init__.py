"""Makes many runs that differ in a few keys, and compares them."""
