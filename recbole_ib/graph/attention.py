"""Attention on the edges of a graph: scores of linked rows, and their softmax over a node's neighbors.

Nothing of size ``[n_edges, d]`` is ever made: scores are products sampled at the edges, and their backward pass is two sparse products.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recbole_ib.graph.propagation import EdgeDot, EdgeStructure


def edge_scores(structure: EdgeStructure, a: Tensor, b: Tensor) -> Tensor:
    """``<a[row_e], b[col_e]>`` for every edge: two ``[n_nodes, d] -> [n_edges]``."""
    return EdgeDot.apply(a, b, structure)


def edge_softmax(structure: EdgeStructure, scores: Tensor) -> Tensor:
    """Softmax of every node's edges, ``exp(s_vw) / sum_w' exp(s_vw')`` over the edges v <- w'. ``[n_edges] -> [n_edges]``.

    The weights of a node that has an edge sum to 1; a node without one takes no part.
    """
    return _EdgeSoftmax.apply(scores, structure)


class _EdgeSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores: Tensor, structure: EdgeStructure) -> Tensor:
        scores, rows = scores.detach(), structure.rows
        # a row's largest score is taken off before exp, which would overflow otherwise
        top = scores.new_full((structure.n_nodes,), -torch.inf).scatter_reduce(0, rows, scores, "amax")
        weights = (scores - top[rows]).exp_()
        weights /= structure.row_sums(weights)[rows]
        ctx.structure = structure
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx, grad: Tensor):
        # made of differentiable steps on the output itself, so that the gradient has a gradient
        (weights,) = ctx.saved_tensors
        s, weighted = ctx.structure, grad * weights
        return weighted - weights * s.row_sums(weighted).index_select(0, s.rows), None
