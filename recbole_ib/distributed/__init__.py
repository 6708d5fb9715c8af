"""Several processes on one run: their environment, and the part of a batch that each computes."""
