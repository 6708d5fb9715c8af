"""Attention on the edges of a graph: scores of linked rows, and their softmax over a node's neighbors.

Nothing of size ``[n_edges, d]`` is ever made: scores are products sampled at the edges, and their backward
pass is two sparse products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_ib.graph.propagation import EdgeDot, EdgeStructure


def edge_scores(structure: EdgeStructure, a: Tensor, b: Tensor) -> Tensor:
    """Return the score ``<a[row_e], b[col_e]>`` of every edge.

    Args:
        structure: the edges.
        a: ``[n_nodes, d]``, read at the rows.
        b: ``[n_nodes, d]``, read at the columns.

    Returns:
        ``[n_edges]``, with gradients to both.

    Example:
        >>> structure = EdgeStructure(torch.tensor([0, 1]), torch.tensor([1, 1]), n_nodes=2)
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
        >>> edge_scores(structure, x, x)
        tensor([3., 9.])
    """
    return EdgeDot.apply(a, b, structure)


def edge_softmax(structure: EdgeStructure, scores: Tensor) -> Tensor:
    """Return the softmax of every node's edges: ``exp(s_vw) / sum_w' exp(s_vw')`` over the edges v <- w'.

    ``[n_edges] -> [n_edges]``.

    The weights of a node that has an edge sum to 1; a node without one takes no part.

    Example:
        >>> structure = EdgeStructure(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), n_nodes=2)
        >>> edge_softmax(structure, torch.tensor([1.0, 1.0, 5.0]))
        tensor([0.5000, 0.5000, 1.0000])
    """
    return _EdgeSoftmax.apply(scores, structure)


class _EdgeSoftmax(torch.autograd.Function):
    """Softmax over the edges of a node; its backward has a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, structure: EdgeStructure) -> Tensor:
        scores, rows = scores.detach(), structure.rows
        # a row's largest score is taken off before exp, which would overflow otherwise
        top = scores.new_full((structure.n_nodes,), -torch.inf).scatter_reduce(0, rows, scores, "amax")
        weights = (scores - top[rows]).exp_()
        weights /= structure.row_sums(weights)[rows]
        ctx.structure = structure
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # made of differentiable steps on the output itself, so that the gradient has a gradient
        (weights,) = ctx.saved_tensors
        s, weighted = ctx.structure, grad * weights
        return weighted - weights * s.row_sums(weighted).index_select(0, s.rows), None
