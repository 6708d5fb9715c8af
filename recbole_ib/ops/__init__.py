"""Tensor operations below everything else: matrix products, unit rows, top-k."""
