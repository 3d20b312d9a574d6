"""What a configuration means and what it would do, before anything is built."""
