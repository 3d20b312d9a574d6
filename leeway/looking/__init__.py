"""How a run stands and what it answered: for a person in front of a terminal, and for programs."""
