"""This machine: what it has, who holds its memory, how fast it computes."""
