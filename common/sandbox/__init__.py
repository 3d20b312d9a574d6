"""Runs somebody else's code in a walled, warm interpreter. This is the outer side; ``sandboxed/`` runs inside."""
