"""Inputs that must be refused in clear words, or read right: the table that `make faults` counts."""
