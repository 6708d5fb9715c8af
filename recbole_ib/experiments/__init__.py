"""Experiments: models compared, ablated and tried on noise, over seeds."""
