"""What runs inside the sandbox. Standard library only: the sources are handed in as text, no file of ours is there."""
