"""Many runs that differ in a few keys, and what they come to."""
