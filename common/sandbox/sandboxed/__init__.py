"""Runs inside the sandbox, on the standard library alone: the sources come in as text, and no file of ours is there."""
