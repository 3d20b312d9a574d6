"""What a GPU has to show: ``make gpu-check``. Each part is a program of its own, started by ``__main__``."""
