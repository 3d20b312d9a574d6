"""Grading mathematics: exact rules first, then Math-Verify, each within counted work."""
