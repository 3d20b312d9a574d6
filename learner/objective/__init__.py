"""The MAGIC objective as pure functions: advantages, loss, entropy control."""
