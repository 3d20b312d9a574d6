"""Shows how a run stands and what its policy answered, to a person at a terminal and to programs."""
