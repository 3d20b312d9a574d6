"""What runs inside the sandbox. Standard library only: its sources are handed in as text, no file of ours is in there."""
