"""Data sets and warm-started models of the shipped tasks, made on the spot from a seed."""
