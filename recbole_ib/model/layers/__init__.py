"""Modules that several models are built of."""
