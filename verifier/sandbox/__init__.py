"""Where somebody else's code runs: a walled, warm interpreter seen from outside; ``sandboxed/`` is what runs inside."""
