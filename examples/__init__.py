"""Small programs to read and to run."""
