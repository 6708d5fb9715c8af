"""Robustness: models against irrelevant or corrupted inputs of rising level."""
